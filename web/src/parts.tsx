import { typedMoment } from "./lib/moment";
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Problem } from "./lib/api";
import { type Decoded, decode, visible } from "./lib/decode";
import { type DiffLine, diffLines } from "./lib/diff";
import type { AsOf, Certainty, ChangeRecord, Data, Moment } from "./lib/types";

/** A sign and a word for each certainty: a colour alone says nothing. */
const MARKS: { [certainty in Certainty]: [sign: string, word: string] } = {
  exact: ["●", "exact"],
  superseded: ["◐", "superseded"],
  missed: ["◔", "missed"],
  bounded: ["┆", "bounded"],
  gap: ["▨", "gap"],
  unread: ["○", "unread"],
  masked: ["○", "masked"],
  cut: ["○", "cut"],
  removed: ["○", "removed"],
  beyond: ["○", "beyond"],
};

export function Mark({ of, short, doubts }: { of: Certainty; short?: boolean; doubts?: string[] }) {
  const [sign, word] = MARKS[of] ?? ["?", String(of)];
  return (
    <span class={`mark ${of}`} title={doubts?.join("\n") || word}>
      <span aria-hidden="true">{sign}</span> {short && of === "exact" ? <span class="sr">exact</span> : word}
    </span>
  );
}

export function Doubts({ of }: { of: string[] }) {
  if (of.length === 0) return null;
  return (
    <ul class="doubts" aria-label="open questions">
      {of.map((doubt) => <li key={doubt}>{visible(doubt)}</li>)}
    </ul>
  );
}

export function Failure({ problem, retry }: { problem: Problem; retry?: () => void }) {
  return (
    <div class="failure" role="alert">
      <p><strong>{visible(problem.detail)}</strong></p>
      <p>Help: {visible(problem.remedy)}</p>
      {retry && <button type="button" onClick={retry}>Retry</button>}
    </div>
  );
}

export const zone = { utc: false };

/** A moment that was typed for a parameter, in the zone that the page shows. */
export const typed = (name: string, text: string) => typedMoment(name, text.trim(), zone.utc, new Date());

export function clock(time: string | number | null | undefined, short = false): string {
  if (time === null || time === undefined) return "–";
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return String(time);
  const pad = (value: number, width = 2) => String(value).padStart(width, "0");
  const [y, mo, d, h, mi, s] = zone.utc
    ? [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate(), date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()]
    : [date.getFullYear(), date.getMonth(), date.getDate(), date.getHours(), date.getMinutes(), date.getSeconds()];
  const day = `${y}-${pad(mo + 1)}-${pad(d)}`;
  const moment = `${pad(h)}:${pad(mi)}:${pad(s)}.${pad(zone.utc ? date.getUTCMilliseconds() : date.getMilliseconds(), 3)}`;
  return short ? moment : `${day} ${moment}`;
}

export function Time({ at, short }: { at: string | number | null | undefined; short?: boolean }) {
  if (at === null || at === undefined) return <span>–</span>;
  return <time dateTime={new Date(at).toISOString()}>{clock(at, short)}</time>;
}

/** When a change happened, as a moment finds it, and not when it was captured, which may be long after. */
export const happened = (time: { changed?: string | null; captured: string }) => time.changed ?? time.captured;

export function bytes(count: number): string {
  if (count < 1024) return `${count} B`;
  if (count < 1 << 20) return `${(count / 1024).toFixed(1)} KiB`;
  if (count < 1 << 30) return `${(count / (1 << 20)).toFixed(1)} MiB`;
  return `${(count / (1 << 30)).toFixed(1)} GiB`;
}

export const count = (value: number) => value.toLocaleString("en-GB");

/** The zxid without its leading zeros. */
export const zxid = (text: string | null | undefined) => (text ? text.replace(/^0x0*(?=.)/, "0x") : "–");

export function useDecoded(data: Data | null | undefined): Decoded | null {
  const [decoded, set] = useState<Decoded | null>(null);
  useEffect(() => {
    let current = true;
    set(null);
    if (data) void decode(data).then((done) => current && set(done));
    return () => void (current = false);
  }, [data]);
  return data ? decoded : null;
}

export function Value({ data }: { data: Data | null | undefined }) {
  const decoded = useDecoded(data);
  if (!data) return <p class="empty">The value is not known.</p>;
  if (!decoded) return <p class="empty">Decoding…</p>;
  return (
    <figure class="value">
      <figcaption>
        {decoded.perhaps ? "perhaps " : ""}{decoded.form} · {bytes(data.size)}
        {data.truncated && <strong> · only the beginning is kept</strong>}
        {data.masked && <strong> · masked: a keyed digest</strong>}
      </figcaption>
      {decoded.text !== "" && <pre tabIndex={0}>{decoded.text}</pre>}
    </figure>
  );
}

export function ValueDiff({ before, after }: { before: Data | null | undefined; after: Data | null | undefined }) {
  const [a, b] = [useDecoded(before), useDecoded(after)];
  if ((before && !a) || (after && !b)) return <p class="empty">Decoding…</p>;
  const lines: DiffLine[] = diffLines(a?.text ?? "", b?.text ?? "");
  const words = { "+": "added: ", "-": "removed: ", " ": "" };
  if (lines.every((line) => line.sign === " ")) {
    return <><p class="empty">The values are equal.</p><Value data={after ?? before} /></>;
  }
  return (
    <pre class="lines" tabIndex={0}>
      {lines.map((line, at) => (
        <div key={at} class={line.sign === "+" ? "added" : line.sign === "-" ? "taken" : ""}>
          <span class="sr">{words[line.sign]}</span><span aria-hidden="true">{line.sign} </span>{line.text}
        </div>
      ))}
    </pre>
  );
}

/** One line of a value. */
export function preview(data: Data | null | undefined, most = 80): string {
  if (!data) return "";
  if (data.masked) return "masked";
  if (data.size === 0) return "(no data)";
  if (data.encoding === "base64") return `(${bytes(data.size)} of bytes)`;
  const text = data.encoding === "json" ? JSON.stringify(data.value) : String(data.value);
  const cut = [...text.slice(0, most * 2)];
  return visible(cut.slice(0, most).join("")) + (cut.length > most ? "…" : "");
}

export const certaintyOf = (record: ChangeRecord): Certainty => {
  if (record.zxid_kind === "upper_bound") return "bounded";
  if (record.missed === null || record.missed === undefined) return record.fidelity === "exact" ? "exact" : "gap";
  return record.missed > 0 ? "missed" : "exact";
};

export function isMark(record: ChangeRecord): boolean {
  return record.op === "gap_begin" || record.op === "gap_end";
}

export function describeGap(record: ChangeRecord): string {
  const gap = record.gap;
  if (!gap) return "";
  const differences = gap.differences === null || gap.differences === undefined ? "" : `, ${count(gap.differences)} differences`;
  const live = gap.since ? `, capture was last live at ${clock(gap.since)}` : "";
  return `${gap.reason}, after ${zxid(gap.from_zxid)}${gap.to_zxid ? ` up to ${zxid(gap.to_zxid)}` : ""}${live}${differences}`;
}

export function MomentLine({ moment }: { moment: Moment }) {
  return (
    <p class="moment">
      <Mark of={moment.certainty} doubts={moment.doubts} />{" "}
      <Time at={moment.before && happened(moment.before)} /> <span class="zone">{zone.utc ? "UTC" : "local time"}</span>{" "}
      <code>{zxid(moment.before?.zxid)}</code> <span>seq {count(moment.seq)}</span>
    </p>
  );
}

export function exists(value: AsOf): string {
  if (value.exists === null || value.exists === undefined) return "may have existed";
  return value.exists ? "existed" : "did not exist";
}

export function Field({ label, children }: { label: string; children: ComponentChildren }) {
  return <label class="field"><span>{label}</span>{children}</label>;
}

export function More({ of }: { of: { complete: boolean; loading: boolean; error: Problem | null; more: () => void; items: unknown[] } }) {
  if (of.error) return <Failure problem={of.error} retry={of.more} />;
  if (of.loading) return <p class="empty" role="status">Loading…</p>;
  if (!of.complete) return <button type="button" class="more" onClick={of.more}>Show more (after {count(of.items.length)})</button>;
  return null;
}
