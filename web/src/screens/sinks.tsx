import { useLoad, usePages } from "../hooks";
import { address, ask, get } from "../lib/api";
import { visible } from "../lib/decode";
import type { ChangeRecord, Letter, List, Sink } from "../lib/types";
import { Failure, More, Time, ValueDiff, count } from "../parts";
import type { ScreenProps } from "../main";

export function Sinks({ where, go, restricted }: ScreenProps) {
  const sinks = useLoad("sinks", (signal) => ask<Sink[]>(address("/sinks"), signal));
  const chosen = where.params["sink"] ?? "";
  const own = sinks.data?.filter((sink) => sink.source === where.source) ?? [];
  return (
    <>
      <h1>Sinks</h1>
      {restricted && <p class="empty">Your token shows some znodes only; the sinks are for tokens without restrictions.</p>}
      {!restricted && sinks.error && <Failure problem={sinks.error} retry={sinks.reload} />}
      {sinks.data && own.length === 0 && <p class="empty">This source has no sink.</p>}
      {own.map((sink) => (
        <section key={sink.sink} class="card" aria-label={sink.sink}>
          <h2>{sink.sink} <span class={`state ${sink.error ? "halted" : "live"}`}>{sink.error ? "■" : "●"} {sink.state}</span></h2>
          <dl class="facts">
            <dt>Cursor</dt><dd>{count(sink.cursor)} of {count(sink.tail)}</dd>
            <dt>Lag</dt><dd>{count(sink.lag_records)} records, {sink.lag_seconds.toFixed(1)} s</dd>
            <dt>Delivered</dt><dd>{count(sink.delivered ?? 0)} since the start</dd>
            <dt>Waiting for a retry</dt><dd>{count(sink.parked?.records ?? 0)}</dd>
            <dt>Dead letters</dt><dd>{count(sink.dead_letters)}{" "}
              {sink.dead_letters > 0 && <button type="button" class="link" aria-expanded={chosen === sink.sink} onClick={() => go({ params: { sink: chosen === sink.sink ? "" : sink.sink } })}>{chosen === sink.sink ? "hide" : "see"}</button>}</dd>
          </dl>
          {sink.error && <div class="failure"><p><strong>{visible(sink.error.message)}</strong></p><p>Help: {visible(sink.error.remedy)}</p></div>}
          {chosen === sink.sink && <Letters source={where.source} sink={sink.sink} where={where} go={go} />}
        </section>
      ))}
    </>
  );
}

function Letters({ source, sink, where, go }: { source: string; sink: string } & Pick<ScreenProps, "where" | "go">) {
  const pages = usePages<Letter, List<Letter>>(`${source} ${sink}`, (cursor) => get(source, "letters", { sink, cursor, limit: 100 }));
  const open = where.params["seq"] ?? "";
  return (
    <>
      <h3>Dead letters</h3>
      <ol class="rows">
        {pages.items.map((letter) => {
          const is = open === String(letter.seq);
          return (
            <li key={letter.seq}>
              <button type="button" aria-expanded={is} onClick={() => go({ params: { ...where.params, seq: is ? "" : String(letter.seq) } }, true)}>
                <Time at={letter.at} /><span class="grow at">{visible(letter.path ?? "(control record)")}</span>
                <span>{letter.attempts} attempts</span><span class="dim">seq {count(letter.seq)}</span>
              </button>
              <p class="reason">{letter.reason === null || letter.reason === undefined ? "You may not see the reason." : visible(letter.reason)}</p>
              {is && <LetterRecord source={source} sink={sink} seq={letter.seq} />}
            </li>
          );
        })}
      </ol>
      {pages.complete && pages.items.length === 0 && <p class="empty">No dead letter is kept.</p>}
      <More of={pages} />
    </>
  );
}

function LetterRecord({ source, sink, seq }: { source: string; sink: string; seq: number }) {
  const record = useLoad(`${source} ${sink} ${seq}`, (signal) => get<ChangeRecord>(source, `letters/${seq}`, { sink }, signal));
  return (
    <div class="detail">
      {record.error && <Failure problem={record.error} retry={record.reload} />}
      {record.data && <ValueDiff before={record.data.before?.data} after={record.data.after?.data} />}
      <p>After the destination is mended: <code>{`zkbridge dlq retry --source ${source} --sink ${sink} --seq ${seq}`}</code></p>
    </div>
  );
}
