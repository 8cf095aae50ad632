// The documents of the API, as far as the page reads them. docs/openapi.json describes them all.

export type Certainty =
  | "exact" | "superseded" | "missed" | "bounded" | "gap"
  | "unread" | "masked" | "cut" | "removed" | "beyond";

export interface Stat {
  czxid: string; mzxid: string; pzxid: string;
  ctime: number; mtime: number;
  version: number; cversion: number; aversion: number;
  ephemeralOwner: string; dataLength: number; numChildren: number;
}

export interface Data {
  encoding: "utf8" | "base64" | "json";
  size: number;
  value: unknown;
  truncated?: boolean;
  masked?: boolean;
}

export interface State { stat?: Stat | null; data?: Data | null }

export interface Gap { reason: string; from_zxid: string; to_zxid?: string | null; since?: string | null; differences?: number | null }

export interface ChangeRecord {
  seq: number;
  op: string;
  path?: string | null;
  root?: string | null;
  zxid?: string | null;
  zxid_kind: "exact" | "upper_bound" | "unknown";
  fidelity: "exact" | "reconciled";
  missed?: number | null;
  superseded?: unknown[];
  time: { captured: string; changed?: string | null };
  before?: State | null;
  after?: State | null;
  gap?: Gap | null;
  txn?: { session: string; type: string; client?: string | null; user?: string | null } | null;
}

export interface AsOf {
  exists?: boolean | null;
  seq?: number | null;
  stat?: Stat | null;
  data?: Data | null;
  certain: boolean;
  certainty: Certainty;
  doubts: string[];
}

export interface Place { seq: number; zxid?: string | null; captured: string; changed?: string | null }

export interface Moment {
  at: string; seq: number; tail: number; oldest?: number | null;
  before?: Place | null; after?: Place | null;
  certain: boolean; certainty: Certainty; doubts: string[];
}

export interface GapMark { seq: number; is_end: boolean; root?: string | null; gap: Gap }

export interface List<T> {
  from?: Moment | null; to: Moment; items: T[]; next?: string | null;
  complete: boolean; scanned: number; gaps: GapMark[]; unknown: number; doubts: string[];
}

export interface Child {
  name: string; size?: number | null; changed?: string | null; version?: number | null;
  kind?: string | null; exists?: boolean | null; has_children: boolean;
  certain: boolean; certainty: Certainty; doubts: string[]; seq?: number | null;
}

export interface NodeAnswer { path: string; source: string; moment: Moment; then: AsOf }

export interface History {
  path: string; items: { record: ChangeRecord; compacted?: number | null }[];
  /** From before the journal, after all items; their numbers are their own. */
  past: { record: ChangeRecord }[];
  next?: string | null; complete: boolean; removed: boolean; doubts: string[];
  unchanged?: State | null; to: Moment;
}

export interface DiffItem { path: string; kind: string; before?: AsOf | null; after?: AsOf | null }

export interface Bucket {
  from: string; to: string; ops: { [op: string]: number }; missed: number; missed_unknown: number;
}

export interface GapSpan {
  root: string; reason: string; from_zxid: string; to_zxid?: string | null; differences?: number | null;
  begin?: { seq: number; at: string } | null; since?: string | null; end?: { seq: number; at: string } | null;
}

export interface Letter { seq: number; at?: string | null; attempts: number; path?: string | null; reason?: string | null }

export interface SourceItem { source: string; state: string; tail: number }

export interface Sink {
  sink: string; source: string; state: string; cursor: number; tail: number;
  lag_records: number; lag_seconds: number; delivered?: number | null; rejected?: number | null;
  dead_letters: number; parked?: { records?: number } | null;
  error?: { kind: string; message: string; remedy: string; calls_operator: boolean } | null;
}

export interface Status {
  version: string; ready: boolean; not_ready: string[]; attention: string[];
  sources: {
    source: string; state: string; mode?: string | null; since?: string | null; server?: string | null;
    armed_since?: string | null; unreadable?: number | null; unreadable_paths: string[];
    gaps?: { [reason: string]: number } | null; trouble?: string | null; halted?: string | null;
    journal: { tail: number; records: number; oldest?: string | null; compacted: number; used_bytes: number; file_bytes: number };
  }[];
  sinks: Sink[];
}

export interface ProblemBody { title: string; status: number; detail: string; remedy: string; parameter?: string | null; type: string }
