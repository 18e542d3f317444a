// The tree of versions: who came from whom. Pure functions over the list that a project has.

import type { Version } from "../api/types";

export interface Branch {
  version: Version;
  children: Branch[];
}

export function find(versions: readonly Version[], id: string | null): Version | undefined {
  return versions.find((version) => version.id === id);
}

export function grow(versions: readonly Version[], parent: string | null = null): Branch[] {
  return versions
    .filter((version) => version.parent === parent)
    .map((version) => ({ version, children: grow(versions, version.id) }));
}

/** From the first version down to `id`. */
export function pathTo(versions: readonly Version[], id: string | null): string[] {
  const path: string[] = [];
  for (let version = find(versions, id); version; version = find(versions, version.parent)) {
    path.unshift(version.id);
  }
  return path;
}

export function descendants(versions: readonly Version[], id: string): string[] {
  return versions
    .filter((version) => version.parent === id)
    .flatMap((child) => [child.id, ...descendants(versions, child.id)]);
}

/** The versions written by one request, to be compared side by side; `version` is one of them. */
export function sideBySide(versions: readonly Version[], version: Version): Version[] {
  const request = JSON.stringify(version.request);
  return versions.filter(
    (other) => other.parent === version.parent && JSON.stringify(other.request) === request,
  );
}
