// The server's API, one function for each thing the page asks of it. A failure is an ApiError with the server's own sentence.

import type {
  DrawnRequest,
  LiveAnswer,
  LiveRequest,
  Note,
  Project,
  ProjectSummary,
  Run,
  RunDetail,
  Surprise,
  Track,
  Version,
  WriteRequest,
} from "./types";

/** The page that needs no server has other functions in the place of these (../web/client.ts). */
export const hasServer: boolean = true;

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number, // 0 where no answer came
  ) {
    super(message);
  }
}

async function call(path: string, init?: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(`/api${path}`, init);
  } catch {
    throw new ApiError("The server does not answer. Is it still running?", 0);
  }
  if (!response.ok) throw new ApiError(await sentence(response), response.status);
  return response;
}

async function sentence(response: Response): Promise<string> {
  try {
    const answer: unknown = await response.json();
    if (answer && typeof answer === "object" && "error" in answer) return String(answer.error);
  } catch {
    // not JSON: something between the page and the server answered
  }
  return `The server answered ${response.status} ${response.statusText}.`;
}

async function get<T>(path: string): Promise<T> {
  return (await call(path)).json();
}

async function send<T>(method: string, path: string, body: unknown): Promise<T> {
  const headers = { "Content-Type": "application/json" };
  return (await call(path, { method, headers, body: JSON.stringify(body) })).json();
}

async function upload<T>(
  path: string,
  file: File,
  fields: Record<string, string> = {},
): Promise<T> {
  const form = new FormData();
  form.append("file", file, file.name);
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  return (await call(path, { method: "POST", body: form })).json();
}

const ofVersion = (project: string, version: string) => `/projects/${project}/versions/${version}`;

export const health = () => call("/health");
export const listRuns = () => get<Run[]>("/runs");
export const readRun = (run: string) => get<RunDetail>(`/runs/${encodeURIComponent(run)}`);

export const listProjects = () => get<ProjectSummary[]>("/projects");
export const createProject = (run: string) => send<Project>("POST", "/projects", { run });
export const readProject = (id: string) => get<Project>(`/projects/${encodeURIComponent(id)}`);
export const changeProject = (id: string, change: { name?: string; current?: string }) =>
  send<Project>("PATCH", `/projects/${id}`, change);
export const removeProject = (id: string) => call(`/projects/${id}`, { method: "DELETE" });
export const openProjectFile = (file: File) => upload<Project>("/projects/open", file);

export const write = (project: string, request: WriteRequest) =>
  send<Version[]>("POST", `/projects/${project}/versions`, request);
export const uploadMidi = (project: string, file: File, bars: number | null) =>
  upload<Version>(`/projects/${project}/upload`, file, bars ? { bars: String(bars) } : {});
export const putNotes = (project: string, version: string, notes: Note[], tracks: Track[]) =>
  send<Version>("PUT", `${ofVersion(project, version)}/notes`, { notes, tracks });
export const drawNotes = (project: string, drawn: DrawnRequest) =>
  send<Version>("POST", `/projects/${project}/notes`, drawn);
export const readVersion = (project: string, version: string) =>
  get<Version>(ofVersion(project, version));
export const removeVersion = (project: string, version: string) =>
  call(ofVersion(project, version), { method: "DELETE" });
export const readSurprise = (project: string, version: string) =>
  get<Surprise>(`${ofVersion(project, version)}/surprise`);

export const projectFileAddress = (project: string) => `/api/projects/${project}/file`;
export const midiAddress = (project: string, version: string) =>
  `/api${ofVersion(project, version)}/midi`;
export const wavAddress = (project: string, version: string) =>
  `/api${ofVersion(project, version)}/wav`;
export const lossesAddress = (run: string, dark: boolean) =>
  `/api/runs/${encodeURIComponent(run)}/losses.png${dark ? "?dark=true" : ""}`;
export const reportAddress = (run: string) => `/api/runs/${encodeURIComponent(run)}/report`;
export const eventsAddress = (project: string) => `/api/projects/${project}/events`;

export const answerLive = (request: LiveRequest) => send<LiveAnswer>("POST", "/live", request);
export const readSoundfont = async () => (await call("/soundfont")).arrayBuffer();

/** Download what a GET answers, so that a refusal is a sentence and not a page of its own. */
export async function download(address: string, fallbackName: string): Promise<void> {
  const response = await call(address.replace(/^\/api/, ""));
  const named = /filename="?([^";]+)"?/.exec(response.headers.get("Content-Disposition") ?? "");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = named?.[1] ?? fallbackName;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
