// The server's API, one function for each thing the page asks of it. A failure is an ApiError with the server's own sentence.

import type {
  DrawnRequest,
  LiveAnswer,
  LivePlayed,
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

const JSON_BODY = { "Content-Type": "application/json" };

async function send<T>(method: string, path: string, body: unknown): Promise<T> {
  return (await call(path, { method, headers: JSON_BODY, body: JSON.stringify(body) })).json();
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

/** Let the server take in what was played so far, so that an answer comes sooner. */
export const lookAhead = (played: LivePlayed) =>
  call("/live/ahead", { method: "POST", headers: JSON_BODY, body: JSON.stringify(played) });

/** Ask for an answer; `take` is called with what there is of it, until it is whole. */
export async function answerLive(
  request: LiveRequest,
  take: (answer: LiveAnswer) => void,
): Promise<void> {
  const body = JSON.stringify({ ...request, stream: true });
  const response = await call("/live", { method: "POST", headers: JSON_BODY, body });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
    text += part.value;
    const events = text.split("\n\n");
    text = events.pop() ?? "";
    for (const event of events) {
      const content = JSON.parse(/^data: (.*)$/m.exec(event)?.[1] ?? "null");
      if (content?.error) throw new ApiError(content.error, response.status);
      if (content) take(content);
    }
  }
}
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
