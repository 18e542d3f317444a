// What stands in a number field while it is typed.

/** The number; null where the field is empty; undefined where it is not a number, or not an allowed one. */
export function numberIn(field: HTMLInputElement): number | null | undefined {
  if (!field.validity.valid) return undefined;
  return field.value === "" ? null : field.valueAsNumber;
}
