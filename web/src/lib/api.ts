// Requests to the API. Everything goes below /api/v1 of the same host.

import type { ProblemBody } from "./types";

const BASE = "/api/v1";
const BUSY_TRIES = 4;

export class Problem extends Error {
  constructor(readonly status: number, readonly detail: string, readonly remedy: string, readonly kind: string) {
    super(detail);
  }
}

let onLoggedOut: () => void = () => {};

export function whenLoggedOut(handler: () => void): void {
  onLoggedOut = handler;
}

type Params = { [name: string]: string | number | null | undefined };

export function address(path: string, params: Params = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, String(value));
  }
  const text = query.toString();
  return BASE + path + (text === "" ? "" : "?" + text);
}

export function sourceAddress(source: string, path: string, params: Params = {}): string {
  return address(`/sources/${encodeURIComponent(source)}/${path}`, params);
}

export async function ask<T>(url: string, signal?: AbortSignal): Promise<T> {
  for (let tries = 1; ; tries++) {
    let response: Response;
    try {
      response = await fetch(url, { signal: signal ?? null, headers: { accept: "application/json" } });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Problem(0, "the bridge does not answer", "check that it runs, then retry", "unreachable");
    }
    if (response.ok) return (await response.json()) as T;
    if (response.status === 503 && tries < BUSY_TRIES) {
      const after = Number(response.headers.get("retry-after")) || 1;
      await new Promise((done) => setTimeout(done, after * 1000));
      continue;
    }
    const problem = await problemOf(response);
    if (response.status === 401) onLoggedOut();
    throw problem;
  }
}

export function get<T>(source: string, path: string, params: Params = {}, signal?: AbortSignal): Promise<T> {
  return ask<T>(sourceAddress(source, path, params), signal);
}

async function problemOf(response: Response): Promise<Problem> {
  try {
    const body = (await response.json()) as ProblemBody;
    const kind = String(body.type).replace("urn:zkbridge:problem:", "");
    return new Problem(response.status, String(body.detail), String(body.remedy), kind);
  } catch {
    return new Problem(response.status, `status ${response.status}`, "read the log of the bridge", "unknown");
  }
}

export async function logIn(login: { code: string } | { token: string }): Promise<void> {
  const response = await fetch(address("/session"), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(login),
  });
  if (!response.ok) throw await problemOf(response);
}

export async function logOut(): Promise<void> {
  await fetch(address("/session"), { method: "DELETE" });
}
