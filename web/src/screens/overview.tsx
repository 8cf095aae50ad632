import { useEffect } from "preact/hooks";
import { Chart } from "../chart";
import { useLoad } from "../hooks";
import { address, ask, get } from "../lib/api";
import type { Bucket, GapSpan, List, SourceItem, Status } from "../lib/types";
import { Failure, Time, bytes, count, zxid } from "../parts";
import type { ScreenProps } from "../main";

const EVERY_MS = 5000;
/** The operations of the chart: gaps are hatched, and a service event repeats a change. */
const CHANGES = "create,update,delete,acl,snapshot";
const BUCKETS = 60;

export function Overview({ where, go, restricted }: ScreenProps) {
  const source = where.source;
  const status = useLoad<Status | null>(`status ${restricted}`, (signal) =>
    restricted ? Promise.resolve(null) : ask<Status>(address("/status"), signal));
  const sources = useLoad("sources", (signal) => ask<SourceItem[]>(address("/sources"), signal));
  const activity = useLoad(`activity ${source}`, (signal) =>
    get<List<Bucket>>(source, "activity", { from: "1h", op: CHANGES, buckets: BUCKETS }, signal));
  const gaps = useLoad(`gaps ${source}`, (signal) => get<List<GapSpan>>(source, "gaps", { limit: 100 }, signal));
  useEffect(() => {
    const timer = setInterval(() => {
      if (document.hidden) return;
      status.reload();
      sources.reload();
      activity.reload();
      gaps.reload();
    }, EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  const summary = status.data?.sources.find((one) => one.source === source);
  const item = sources.data?.find((one) => one.source === source);
  const state = summary?.state ?? item?.state ?? "…";
  const oldest = summary?.journal.oldest;
  const isYoung = oldest !== undefined && oldest !== null && Date.now() - Date.parse(oldest) < 3_600_000;
  const spans = gaps.data?.items ?? [];
  const sinks = status.data?.sinks.filter((sink) => sink.source === source) ?? [];
  return (
    <>
      <h1>{source} <span class={`state ${state}`}>{state === "live" ? "●" : "■"} {state}</span></h1>
      {status.error && <Failure problem={status.error} retry={status.reload} />}
      {status.data?.attention.map((sentence) => <p class="warning" key={sentence}>▲ {sentence}</p>)}
      {restricted && <p class="empty">Your token shows some znodes only, so this page leaves out the status.</p>}
      <dl class="facts">
        <dt>Tail</dt><dd>seq {item ? count(item.tail) : "…"}</dd>
        {summary && <>
          <dt>Since</dt><dd><Time at={summary.since} /></dd>
          <dt>Capture</dt><dd>{summary.mode ?? "–"}{summary.server ? `, ZooKeeper ${summary.server}` : ""}</dd>
          <dt>Journal</dt><dd>{bytes(summary.journal.used_bytes)}, {count(summary.journal.records)} records since <Time at={summary.journal.oldest} /></dd>
          <dt>Unreadable</dt><dd>{count(summary.unreadable ?? 0)} znodes</dd>
        </>}
        <dt>Gaps</dt><dd>{gaps.data ? `${count(spans.length)}${gaps.data.complete ? "" : " and more"}` : "…"}</dd>
      </dl>
      {(summary?.halted ?? summary?.trouble) && <p class="warning">▲ {summary?.halted ?? summary?.trouble}</p>}
      <h2>{isYoung ? "Changes since the journal began" : "Changes in the last hour"}</h2>
      {activity.error && <Failure problem={activity.error} retry={activity.reload} />}
      {activity.data && <Chart buckets={activity.data.items} gaps={spans} height={140} />}
      {activity.data?.next && <p class="empty">The budget of one question ended: the later intervals are on the screen Activity.</p>}
      <h2>Gaps</h2>
      {gaps.data && spans.length === 0 && <p class="empty">No gap among the kept records.</p>}
      {spans.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="gaps"><table>
          <thead><tr><th>Gap</th><th>From</th><th>To</th><th>Root</th><th>zxid</th><th>Differences</th></tr></thead>
          <tbody>{spans.map((span, at) => (
            <tr key={at}>
              <td><span class="mark gap"><span aria-hidden="true">▨</span> {span.reason}</span></td>
              <td><Time at={span.since ?? span.begin?.at} /></td>
              <td>{span.end ? <Time at={span.end.at} /> : "open"}</td>
              <td>{span.root}</td>
              <td><code>{zxid(span.from_zxid)}–{span.to_zxid ? zxid(span.to_zxid) : ""}</code></td>
              <td>{span.differences ?? "–"}</td>
            </tr>))}
          </tbody>
        </table></div>
      )}
      {sinks.length > 0 && <>
        <h2>Sinks</h2>
        <ul class="plain">{sinks.map((sink) => (
          <li key={sink.sink}>
            <strong>{sink.sink}</strong> <span class={`state ${sink.error ? "halted" : "live"}`}>{sink.error ? "■" : "●"} {sink.state}</span>{" "}
            lag {count(sink.lag_records)}, dead letters {count(sink.dead_letters)}{" "}
            <button type="button" class="link" onClick={() => go({ screen: "sinks", params: { sink: sink.sink } })}>see</button>
          </li>))}
        </ul>
      </>}
    </>
  );
}
