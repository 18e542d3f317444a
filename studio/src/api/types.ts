// Short names for what the server's schema defines. src/api/schema.ts is generated from openapi.json.

import type { components } from "./schema";

type Schemas = components["schemas"];

export type Alternative = Schemas["Alternative"];
export type DrawnRequest = Schemas["DrawnRequest"];
export type Finding = Schemas["Finding"];
export type Gone = Schemas["Gone"];
export type Instrument = Schemas["Instrument"];
export type LiveAnswer = Schemas["LiveAnswer"];
export type LivePlayed = Schemas["LivePlayed"];
export type LiveRequest = Schemas["LiveRequest"];
export type Metre = Schemas["Metre"];
export type Music = Schemas["Music"];
export type Note = Schemas["Note"];
export type NoteSurprise = Schemas["NoteSurprise"];
export type Piece = Schemas["ShownPiece"];
export type Project = Schemas["ProjectDetail"];
export type ProjectState = Schemas["ProjectState"];
export type ProjectSummary = Schemas["ProjectSummary"];
export type Run = Schemas["Run"];
export type RunDetail = Schemas["RunDetail"];
export type Setting = Schemas["Setting"];
export type Surprise = Schemas["Surprise"];
export type Tempo = Schemas["Tempo"];
export type Track = Schemas["Track"];
/** Without its notes in lists and events, with them when it is asked for itself. */
export type Version = Schemas["Version"] & { piece?: Piece };
/** What is left out is the server's default. */
export type WriteRequest = Partial<Schemas["VersionRequest"]> & { task: Task };
export type Task = Schemas["VersionRequest"]["task"];
