import { useEffect, useRef, useState } from "preact/hooks";
import { usePages } from "../hooks";
import { address, ask, get, sourceAddress } from "../lib/api";
import { visible } from "../lib/decode";
import type { ChangeRecord, GapMark, List, Moment } from "../lib/types";
import { Doubts, Failure, Field, Mark, More, Time, ValueDiff, certaintyOf, count, describeGap, happened, isMark, preview, typed, zxid } from "../parts";
import { Problem } from "../lib/api";
import type { ScreenProps } from "../main";

const PAGE = 200;
/** Rows that the live view keeps. */
const LIVE_ROWS_MAX = 500;
/** Records that the live view takes in a second. */
const LIVE_RATE = 50;
const RECONNECT_MS = 2000;
const FILTERS: [name: string, label: string, hint: string][] = [
  ["under", "Under", "/config"],
  ["glob", "Glob", "**/limits"],
  ["op", "Operations", "update,delete"],
  ["session", "Session", "0x…"],
  ["client", "Client", "10.0.0.5"],
  ["user", "User", "alice"],
  ["text", "Text", ""],
  ["from", "From", "1h"],
  ["to", "To", "now"],
];
/** The filters of a stream. */
const LIVE_FILTERS = ["under", "glob", "op"];

export function Filters({ names, where, go }: Pick<ScreenProps, "where" | "go"> & { names?: string[] }) {
  const shown = FILTERS.filter(([name]) => !names || names.includes(name));
  return (
    <form class="filters" onSubmit={(event) => {
      event.preventDefault();
      const next = { ...where.params };
      for (const [name, value] of new FormData(event.currentTarget as HTMLFormElement)) next[name] = typed(name, String(value));
      go({ params: next });
    }}>
      {shown.map(([name, label, hint]) => (
        <Field key={name} label={label}><input name={name} placeholder={hint} key={where.params[name]} value={where.params[name] ?? ""} spellcheck={false} /></Field>
      ))}
      <button type="submit">Find</button>
    </form>
  );
}

export function Changes({ where, go }: ScreenProps) {
  const live = where.params["live"] === "1";
  return (
    <>
      <h1>Changes <button type="button" aria-pressed={live} onClick={() => go({ params: { ...where.params, live: live ? "" : "1" } })}>{live ? "■ Stop live" : "▶ Live"}</button></h1>
      <Filters where={where} go={go} {...(live ? { names: LIVE_FILTERS } : {})} />
      {live ? <Live where={where} go={go} /> : <Past where={where} go={go} />}
    </>
  );
}

function Past({ where, go }: Pick<ScreenProps, "where" | "go">) {
  const query: { [name: string]: string } = { order: "newest" };
  for (const [name] of FILTERS) if (where.params[name]) query[name] = where.params[name]!;
  const pages = usePages<ChangeRecord, List<ChangeRecord>>(JSON.stringify([where.source, query]), (cursor) =>
    get(where.source, "changes", { ...query, cursor, limit: PAGE }));
  const last = pages.pages[pages.pages.length - 1];
  const rows: Row[] = [
    ...pages.items.map((record): Row => ({ kind: "record", seq: record.seq, record })),
    ...pages.pages.flatMap((page) => page.gaps).map((gap): Row => ({ kind: "gap", seq: gap.seq, gap })),
  ];
  const seen = new Set<number>();
  const unique = rows.filter((row) => !seen.has(row.seq) && seen.add(row.seq)).sort((a, b) => b.seq - a.seq);
  return (
    <>
      <Rows rows={unique} where={where} go={go} />
      {pages.complete && unique.length === 0 && <p class="empty">No record matches.</p>}
      {last && <Doubts of={last.doubts} />}
      <More of={pages} />
    </>
  );
}

type Row =
  | { kind: "record"; seq: number; record: ChangeRecord }
  | { kind: "gap"; seq: number; gap: GapMark }
  | { kind: "lost"; seq: number; text: string };

function Live({ where, go }: Pick<ScreenProps, "where" | "go">) {
  const [rows, setRows] = useState<Row[]>([]);
  const [state, setState] = useState("connecting");
  const [skipped, setSkipped] = useState(0);
  const [problem, setProblem] = useState<Problem | null>(null);
  const last = useRef<number | null>(null);
  const pending = useRef<Row[]>([]);
  const key = JSON.stringify([where.source, ...LIVE_FILTERS.map((name) => where.params[name] ?? "")]);
  useEffect(() => {
    last.current = null;
    setRows([]);
    setSkipped(0);
    let events: EventSource | null = null;
    let frame = 0;
    let ended = false;
    let retry: ReturnType<typeof setTimeout> | null = null;
    const flush = () => {
      frame = 0;
      const arrived = pending.current.splice(0).reverse();
      setRows((old) => [...arrived, ...old].slice(0, LIVE_ROWS_MAX));
    };
    const push = (row: Row) => {
      pending.current.push(row);
      if (frame === 0) frame = requestAnimationFrame(flush);
    };
    const fail = (error: Problem) => {
      setState("reconnecting");
      setProblem(error);
      if (!ended) retry = setTimeout(open, RECONNECT_MS);
    };
    const open = () => {
      if (events || ended || document.hidden) return;
      if (last.current === null) {
        // A stream that breaks before its first event has no place to resume at, so it begins after a known record.
        get<Moment>(where.source, "moment").then((now) => { last.current ??= now.tail; open(); }, fail);
        return;
      }
      const filters: { [name: string]: string } = {};
      for (const name of LIVE_FILTERS) filters[name] = where.params[name] ?? "";
      setState("connecting");
      events = new EventSource(sourceAddress(where.source, "stream", { ...filters, after: last.current, rate: LIVE_RATE }));
      const on = (name: string, take: (data: any, seq: number) => void) =>
        events!.addEventListener(name, (event) => {
          const seq = Number(event.lastEventId);
          if (seq > 0) last.current = seq;
          take(JSON.parse(event.data), seq);
        });
      on("record", (record: ChangeRecord, seq) => push({ kind: "record", seq, record }));
      on("gap", (gap: GapMark, seq) => push({ kind: "gap", seq, gap }));
      on("position", () => {});
      on("skipped", (data: { count: number }) => setSkipped((old) => old + data.count));
      on("lost", (data: { from: number; to: number }, seq) =>
        push({ kind: "lost", seq, text: `records ${data.from}–${data.to} were removed before they could be shown` }));
      events.onopen = () => { setState("live"); setProblem(null); };
      events.onerror = () => {
        if (events?.readyState !== EventSource.CLOSED) return setState("reconnecting");
        close();
        setState("reconnecting");
        // An EventSource does not say why it was refused: this finds an ended session.
        ask(address("/session")).then(() => setProblem(null), (error: Problem) => setProblem(error));
        retry = setTimeout(open, RECONNECT_MS);
      };
    };
    const close = () => {
      events?.close();
      events = null;
      if (retry !== null) clearTimeout(retry);
      retry = null;
    };
    // A browser has few connections to one host: a hidden tab gives its own back, and resumes exactly.
    const shown = () => {
      if (document.hidden) { close(); setState("paused"); } else open();
    };
    document.addEventListener("visibilitychange", shown);
    open();
    return () => {
      ended = true;
      document.removeEventListener("visibilitychange", shown);
      close();
      if (frame !== 0) cancelAnimationFrame(frame);
      pending.current = [];
    };
  }, [key]);
  return (
    <>
      <p role="status"><span class={`state ${state === "live" ? "live" : ""}`}>{state === "live" ? "●" : "◌"} {state}</span>, at most {LIVE_RATE} a second{skipped > 0 && <>, <strong>{count(skipped)} skipped</strong></>}</p>
      {problem && <Failure problem={problem} />}
      <Rows rows={rows} where={where} go={go} />
      {rows.length === 0 && <p class="empty">Nothing has changed since this view was opened.</p>}
    </>
  );
}

function Rows({ rows, where, go }: { rows: Row[] } & Pick<ScreenProps, "where" | "go">) {
  const open = where.params["seq"] ?? "";
  return (
    <ol class="rows">
      {rows.map((row) => {
        if (row.kind === "lost") return <li key={`lost ${row.seq}`} class="mark gap">▨ {row.text}</li>;
        if (row.kind === "gap") {
          return <li key={row.seq} class="gaprow"><span class="mark gap">▨ gap {row.gap.is_end ? "ends" : "begins"}</span> ({row.gap.gap.reason}) at {row.gap.root ?? "/"}, after {zxid(row.gap.gap.from_zxid)} <span class="dim">seq {count(row.seq)}</span></li>;
        }
        const record = row.record;
        if (isMark(record)) {
          return <li key={row.seq} class="gaprow"><Time at={record.time.captured} /> <span class="mark gap">▨ gap {record.op === "gap_end" ? "ends" : "begins"}</span> {describeGap(record)} at {visible(record.root ?? "/")} <span class="dim">seq {count(row.seq)}</span></li>;
        }
        const is = open === String(row.seq);
        return (
          <li key={row.seq}>
            <button type="button" aria-expanded={is} onClick={() => go({ params: { ...where.params, seq: is ? "" : String(row.seq) } }, true)}>
              <Time at={happened(record.time)} />
              <strong>{record.op}</strong>
              <Mark of={certaintyOf(record)} short />
              {(record.missed ?? 0) > 0 && <span>{record.missed} missed</span>}
              <span class="grow"><span class="at">{visible(record.path ?? record.root ?? "")}</span> <span class="value">{preview(record.after?.data ?? record.before?.data)}</span></span>
              <code>{zxid(record.zxid)}</code><span class="dim">seq {count(row.seq)}</span>
            </button>
            {is && (
              <div class="detail">
                <p>
                  Captured <Time at={record.time.captured} />
                  {record.txn && <>, written by session <code>{record.txn.session}</code>{record.txn.client ? ` from ${visible(record.txn.client)}` : ""}{record.txn.user ? `, user ${visible(record.txn.user)}` : ""}</>}{" "}
                  {record.path && <button type="button" class="link" onClick={() => go({ screen: "explorer", params: { path: record.path!, at: String(row.seq) } })}>Show in the explorer</button>}
                </p>
                <ValueDiff before={record.before?.data} after={record.after?.data} />
              </div>
            )}
          </li>
        );
      })}
    </ol>
  );
}
