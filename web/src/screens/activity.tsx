import { Chart } from "../chart";
import { useLoad, usePages } from "../hooks";
import { get } from "../lib/api";
import type { Bucket, GapSpan, List } from "../lib/types";
import { Failure, More, Time, count } from "../parts";
import type { ScreenProps } from "../main";
import { Filters } from "./changes";

const BUCKETS = 200;

export function Activity({ where, go }: ScreenProps) {
  const names = ["under", "glob", "op", "session", "client", "user", "text", "from", "to"];
  const query: { [name: string]: string } = {};
  for (const name of names) if (where.params[name]) query[name] = where.params[name]!;
  const key = JSON.stringify([where.source, query]);
  const pages = usePages<Bucket, List<Bucket>>(key, (cursor) =>
    get(where.source, "activity", { ...query, buckets: BUCKETS, cursor }));
  const gaps = useLoad(key, (signal) =>
    get<List<GapSpan>>(where.source, "gaps", { from: query["from"], to: query["to"], limit: 1000 }, signal));
  const busy = pages.items.filter((bucket) => Object.keys(bucket.ops).length > 0);
  const show = (from: string, to: string) => {
    go({ screen: "changes", params: { ...query, from, to } });
  };
  return (
    <>
      <h1>Activity</h1>
      <Filters where={where} go={go} names={names} />
      {gaps.error && <Failure problem={gaps.error} retry={gaps.reload} />}
      {pages.items.length > 0 && <Chart buckets={pages.items} gaps={gaps.data?.items ?? []} height={280} onRange={show} />}
      <More of={pages} />
      {busy.length > 0 && <>
        <h2>Intervals with records</h2>
        <p class="dim">Drag over the chart, or choose an interval, to see its records.</p>
        <div class="scroll" tabIndex={0} role="region" aria-label="intervals"><table>
          <thead><tr><th>From</th><th>Operations</th><th>Missed</th></tr></thead>
          <tbody>{busy.map((bucket) => (
            <tr key={bucket.from}>
              <td><button type="button" class="link" onClick={() => show(bucket.from, bucket.to)}><Time at={bucket.from} /></button></td>
              <td>{Object.entries(bucket.ops).map(([op, number]) => `${op} ${count(number)}`).join(", ")}</td>
              <td>{bucket.missed > 0 ? `◔ ${count(bucket.missed)}` : "–"}{bucket.missed_unknown > 0 ? `, ▨ unknown before ${count(bucket.missed_unknown)}` : ""}</td>
            </tr>))}
          </tbody>
        </table></div>
      </>}
      {pages.complete && busy.length === 0 && <p class="empty">No record in this range.</p>}
    </>
  );
}
