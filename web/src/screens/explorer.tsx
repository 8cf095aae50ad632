import { useEffect, useRef, useState } from "preact/hooks";
import { useKeys, useLoad, usePages } from "../hooks";
import { get, sourceAddress } from "../lib/api";
import { visible } from "../lib/decode";
import { ancestors, joined, parentOf } from "../lib/place";
import type { ChangeRecord, Child, GapSpan, History, List, Moment, NodeAnswer } from "../lib/types";
import { Doubts, Failure, Field, Mark, MomentLine, More, Time, Value, ValueDiff, bytes, certaintyOf, count, exists, happened, isMark, preview, typed, zxid } from "../parts";
import type { ScreenProps } from "../main";

/** Ten requests a second while the slider moves. */
const SCRUB_MS = 100;
const CHILDREN_PAGE = 200;
const HISTORY_PAGE = 50;
const TABS = ["value", "diff", "history", "stat"] as const;

export function Explorer({ where, go }: ScreenProps) {
  const { source, params } = where;
  const path = params["path"] ?? "/";
  const folder = params["in"] ?? path;
  const at = params["at"] ?? "";
  const tab = params["tab"] ?? "value";
  const set = (change: { [name: string]: string }, replace = false) => {
    const next = { ...params, ...change };
    if (next["in"] === next["path"]) next["in"] = "";
    go({ params: next }, replace);
  };
  const moment = useLoad(`${source} ${at}`, (signal) => get<Moment>(source, "moment", { at }, signal));
  const gaps = useLoad(source, (signal) => get<List<GapSpan>>(source, "gaps", { limit: 1000 }, signal));
  const seq = moment.data?.seq;
  const step = async (back: boolean) => {
    if (seq === undefined) return;
    const range = back ? { to: seq, order: "newest" } : { from: seq, order: "oldest" };
    let cursor: string | null | undefined = null;
    do {
      const page: List<ChangeRecord> = await get(source, "changes", { under: path, limit: 3, cursor, ...range });
      const found = page.items.find((record) => (back ? record.seq < seq : record.seq > seq));
      if (found) return set({ at: String(found.seq) });
      cursor = page.next;
    } while (cursor);
  };
  useKeys({ "[": () => void step(true), "]": () => void step(false) });
  return (
    <>
      <h1 class="sr">Explorer</h1>
      <Slider moment={moment.data} gaps={gaps.data?.items ?? []} at={at} set={(next) => set({ at: next }, true)} step={step} go={(next) => set({ at: next })} />
      {moment.error && <Failure problem={moment.error} retry={moment.reload} />}
      {moment.data && <MomentLine moment={moment.data} />}
      {moment.data && <Doubts of={moment.data.doubts} />}
      <form class="path" onSubmit={(event) => {
        event.preventDefault();
        const next = String(new FormData(event.currentTarget as HTMLFormElement).get("path")).trim() || "/";
        set({ path: next.startsWith("/") ? next : `/${next}`, in: "" });
      }}>
        <Field label="Path"><input name="path" value={path} key={path} spellcheck={false} /></Field>
        <button type="submit">Show</button>
      </form>
      <div class="split">
        <section aria-label="children">
          <nav aria-label="path" class="crumbs">
            {ancestors(folder).map((one) => (
              <button key={one} type="button" class="link" onClick={() => set({ path: one, in: "" })}>{one === "/" ? "/" : visible(one.slice(one.lastIndexOf("/") + 1))}</button>
            ))}
          </nav>
          <Children source={source} folder={folder} at={at} path={path}
            open={(child, has) => set({ path: child, in: has ? "" : folder })} up={() => set({ path: parentOf(folder), in: "" })} />
        </section>
        <section aria-label="znode">
          <h2 class="name">{visible(path)}</h2>
          <div class="tabs" role="group" aria-label="views">
            {TABS.map((one) => <button key={one} type="button" aria-pressed={one === tab} onClick={() => set({ tab: one === "value" ? "" : one })}>{one}</button>)}
            <a class="button" href={sourceAddress(source, "node", { path, at, raw: 1 })} download>raw</a>
            <button type="button" onClick={() => go({ screen: "changes", params: { under: path } })}>changes</button>
          </div>
          <Znode source={source} path={path} at={at} tab={tab} jump={(next) => set({ at: next })} />
        </section>
      </div>
    </>
  );
}

function Slider({ moment, gaps, at, set, step, go }: {
  moment: Moment | null;
  gaps: GapSpan[];
  at: string;
  set: (at: string) => void;
  step: (back: boolean) => void;
  go: (at: string) => void;
}) {
  const [held, hold] = useState<number | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  const wanted = useRef<number | null>(null);
  useEffect(() => () => void (timer.current !== null && clearTimeout(timer.current)), []);
  useEffect(() => { if (timer.current === null) hold(null); }, [moment]);
  const [first, last] = [moment?.oldest ?? 1, Math.max(moment?.tail ?? 1, moment?.oldest ?? 1)];
  const share = (seq: number) => `${(100 * (Math.min(Math.max(seq, first), last) - first)) / Math.max(last - first, 1)}%`;
  const scrub = (seq: number) => {
    hold(seq);
    wanted.current = seq;
    if (timer.current !== null) return;
    timer.current = setTimeout(() => {
      timer.current = null;
      const seq = wanted.current;
      if (seq !== null) set(seq >= last ? "" : String(seq));
    }, SCRUB_MS);
  };
  const value = held ?? moment?.seq ?? last;
  return (
    <div class="slider">
      <button type="button" onClick={() => step(true)} aria-label="previous change below the selection" title="previous change ([)">◀</button>
      <div class="track">
        <input type="range" min={first} max={last} step={1} value={value} aria-label="moment"
          aria-valuetext={`record ${value} of ${last}${moment?.before ? `, ${happened(moment.before)}` : ""}`}
          onInput={(event) => scrub(Number(event.currentTarget.value))} />
        <div class="gaps" aria-hidden="true">
          {gaps.map((gap, index) => {
            const [from, to] = [gap.begin?.seq ?? first, gap.end?.seq ?? last];
            return to < first ? null : <span key={index} title={`gap: ${gap.reason}`} style={{ left: share(from), right: `calc(100% - ${share(to)})` }} />;
          })}
        </div>
      </div>
      <button type="button" onClick={() => step(false)} aria-label="next change below the selection" title="next change (])">▶</button>
      <button type="button" onClick={() => go("")} aria-pressed={at === ""}>Now</button>
      <form onSubmit={(event) => {
        event.preventDefault();
        go(typed("at", String(new FormData(event.currentTarget as HTMLFormElement).get("at"))));
      }}>
        <input name="at" aria-label="moment as a number, zxid, time or age" placeholder="15m, 13:40, 0x…" value={at} key={at} />
      </form>
    </div>
  );
}

function Children({ source, folder, at, path, open, up }: {
  source: string; folder: string; at: string; path: string;
  open: (path: string, hasChildren: boolean) => void; up: () => void;
}) {
  const [prefix, setPrefix] = useState("");
  useEffect(() => setPrefix(""), [folder]);
  const pages = usePages<Child, List<Child>>(`${source} ${folder} ${at} ${prefix}`, (cursor) =>
    get(source, "children", { path: folder, at, prefix, cursor, limit: CHILDREN_PAGE }));
  const list = useRef<HTMLUListElement>(null);
  const press = (event: KeyboardEvent) => {
    const buttons = [...(list.current?.querySelectorAll("button") ?? [])];
    const index = buttons.indexOf(document.activeElement as HTMLButtonElement);
    if (event.key === "ArrowDown") buttons[Math.min(index + 1, buttons.length - 1)]?.focus();
    else if (event.key === "ArrowUp") buttons[Math.max(index - 1, 0)]?.focus();
    else if (event.key === "ArrowRight") buttons[index]?.click();
    else if (event.key === "ArrowLeft") up();
    else return;
    event.preventDefault();
  };
  const unknown = pages.pages.reduce((sum, page) => sum + page.unknown, 0);
  return (
    <>
      <Field label="Names that begin with"><input value={prefix} spellcheck={false} onInput={(event) => setPrefix(event.currentTarget.value)} /></Field>
      <ul class="tree" ref={list} onKeyDown={press}>
        {folder !== "/" && <li><button type="button" onClick={up} aria-label="parent">..</button></li>}
        {pages.items.map((child) => {
          const full = joined(folder, child.name);
          return (
            <li key={child.name}>
              <button type="button" aria-current={full === path ? "true" : undefined} onClick={() => open(full, child.has_children)} class={child.exists === null ? "unsure" : ""}>
                <span aria-hidden="true">{child.has_children ? "▸" : " "}</span>
                <span class="grow">{visible(child.name)}</span>
                {child.kind === "ephemeral" && <span class="tag">ephemeral</span>}
                {child.size !== null && child.size !== undefined && <span class="dim">{bytes(child.size)}</span>}
                <Mark of={child.certainty} short doubts={child.doubts} />
              </button>
            </li>
          );
        })}
      </ul>
      {pages.complete && pages.items.length === 0 && <p class="empty">No children at this moment.</p>}
      {unknown > 0 && <p class="warning">▲ {count(unknown)} znodes are left out, although it is not certain that they did not exist.</p>}
      <More of={pages} />
    </>
  );
}

function Znode({ source, path, at, tab, jump }: { source: string; path: string; at: string; tab: string; jump: (at: string) => void }) {
  const node = useLoad(`${source} ${path} ${at}`, (signal) => get<NodeAnswer>(source, "node", { path, at }, signal));
  if (tab === "history") return <Versions source={source} path={path} at={at} jump={jump} />;
  if (node.error?.kind === "never-seen") {
    return <p class="empty">No record of {visible(path)}: the journal has never seen this path.</p>;
  }
  if (node.error) return <Failure problem={node.error} retry={node.reload} />;
  if (!node.data) return <p class="empty" role="status">Loading…</p>;
  const then = node.data.then;
  return (
    <div class={then.certain ? "" : "uncertain"}>
      <p>
        <Mark of={then.certainty} /> The znode {exists(then)}.{" "}
        {then.stat && <>Version {then.stat.version}, written <Time at={then.stat.mtime} />.</>}
      </p>
      <Doubts of={then.doubts} />
      {tab === "value" && then.exists !== false && <Value data={then.data} />}
      {tab === "diff" && <LastChange source={source} path={path} at={at} />}
      {tab === "stat" && (then.stat
        ? <dl class="facts stat">{Object.entries(then.stat).map(([name, value]) => [
            <dt key={name}>{name}</dt>,
            <dd key={`${name}=`}>{name === "ctime" || name === "mtime" ? <Time at={Number(value)} /> : <code>{String(value)}</code>}</dd>,
          ])}</dl>
        : <p class="empty">The Stat of this moment is not known.</p>)}
    </div>
  );
}

function LastChange({ source, path, at }: { source: string; path: string; at: string }) {
  const last = useLoad(`${source} ${path} ${at}`, (signal) => get<History>(source, "history", { path, to: at, limit: 1 }, signal));
  if (last.error) return <Failure problem={last.error} retry={last.reload} />;
  const known = last.data?.items[0]?.record;
  const record = known ?? last.data?.past[0]?.record;
  if (!last.data) return <p class="empty" role="status">Loading…</p>;
  if (!record) return <p class="empty">No record of a change is kept.</p>;
  return (
    <>
      <p><strong>{record.op}</strong> <Mark of={certaintyOf(record)} /> <Time at={happened(record.time)} /> {known ? <>seq {count(record.seq)}</> : "before the journal"}, against the value before it:</p>
      <ValueDiff before={record.before?.data} after={record.after?.data} />
    </>
  );
}

function Versions({ source, path, at, jump }: { source: string; path: string; at: string; jump: (at: string) => void }) {
  const pages = usePages<History["items"][number], History>(`${source} ${path}`, (cursor) =>
    get(source, "history", { path, cursor, limit: HISTORY_PAGE }));
  const last = pages.pages[pages.pages.length - 1];
  const past = pages.pages.flatMap((page) => page.past);
  return (
    <>
      <ol class="rows">
        {pages.items.map(({ record }) => (
          <li key={record.seq} class={String(record.seq) === at ? "current" : ""}>
            <button type="button" onClick={() => jump(String(record.seq))}>
              <Time at={happened(record.time)} />
              <strong>{record.op}</strong>
              <Mark of={certaintyOf(record)} short />
              {(record.missed ?? 0) > 0 && <span>{record.missed} missed before</span>}
              <span class="grow value">{isMark(record) ? "" : preview(record.after?.data)}</span>
              <code>{zxid(record.zxid)}</code><span class="dim">seq {count(record.seq)}</span>
            </button>
          </li>
        ))}
        {past.map(({ record }) => (
          <li key={`past ${record.seq}`} class={record.zxid === at ? "current" : ""}>
            <button type="button" onClick={() => record.zxid && jump(record.zxid)}>
              <Time at={happened(record.time)} />
              <strong>{record.op}</strong>
              <Mark of={certaintyOf(record)} short />
              <span class="grow value">{preview(record.after?.data)}</span>
              <code>{zxid(record.zxid)}</code><span class="dim">before the journal</span>
            </button>
          </li>
        ))}
      </ol>
      {pages.complete && pages.items.length === 0 && past.length === 0 && (last?.unchanged
        ? <><p>No change is kept: the value is the same since {zxid(last.unchanged.stat?.mzxid)}.</p><Value data={last.unchanged.data} /></>
        : <p class="empty">No record of this path.</p>)}
      {last?.removed && <p class="empty">Older records may have been removed.</p>}
      {last && <Doubts of={last.doubts} />}
      <More of={pages} />
    </>
  );
}
