import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import type { Bucket, GapSpan } from "./lib/types";
import { clock, count, zone } from "./parts";

/** Operations of a chart from the bottom up; the rest is one group. */
const GROUPS = ["create", "update", "delete", "other"] as const;

function grouped(bucket: Bucket): number[] {
  const named = GROUPS.slice(0, 3).map((op) => bucket.ops[op] ?? 0);
  const all = Object.values(bucket.ops).reduce((sum, one) => sum + one, 0);
  return [...named, all - named.reduce((sum, one) => sum + one, 0)];
}

/** Bars by operation, gaps hatched; the same numbers are in a table for those who cannot see them. */
export function Chart({ buckets, gaps, height, onRange }: {
  buckets: Bucket[];
  gaps: GapSpan[];
  height: number;
  onRange?: (from: string, to: string) => void;
}) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = box.current;
    if (!element || buckets.length === 0) return;
    const styles = getComputedStyle(element);
    const color = (name: string) => styles.getPropertyValue(name).trim();
    const times = buckets.map((bucket) => Date.parse(bucket.from) / 1000);
    const last = buckets[buckets.length - 1]!;
    times.push(Date.parse(last.to) / 1000);
    // Stacked from the top, so that a lower bar is drawn over a higher one.
    const sums = buckets.map((bucket) => {
      let sum = 0;
      return grouped(bucket).map((one) => (sum += one));
    });
    const series = GROUPS.map((_, group) => [...sums.map((sum) => sum[group]!), 0]).reverse();
    const bars = uPlot.paths.bars!({ size: [0.9, 60], align: 1 });
    const text = color("--text");
    const axis = { stroke: text, grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 }, font: "12px sans-serif" };
    const options: uPlot.Options = {
      width: element.clientWidth,
      height,
      legend: { show: false },
      cursor: { drag: { x: onRange !== undefined, y: false, setScale: false } },
      scales: { x: { time: true, range: [times[0]!, times[times.length - 1]!] }, y: { range: (_, __, max) => [0, Math.max(max, 1) * 1.1] } },
      tzDate: (seconds) => (zone.utc ? uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC") : new Date(seconds * 1000)),
      axes: [{ ...axis, space: 90, values: (_, splits) => labels(splits, last.to, buckets[0]!.from) }, { ...axis, size: 48 }],
      series: [{}, ...[...GROUPS].reverse().map((op) => ({ label: op, paths: bars, points: { show: false }, fill: color(`--op-${op}`), stroke: color("--ground"), width: 0.5 }))],
      hooks: {
        drawClear: [(plot) => hatch(plot, gaps, color("--gap"))],
        setSelect: [(plot) => {
          if (!onRange || plot.select.width < 2) return;
          const at = (x: number) => new Date(plot.posToVal(x, "x") * 1000).toISOString();
          onRange(at(plot.select.left), at(plot.select.left + plot.select.width));
        }],
      },
    };
    const plot = new uPlot(options, [times, ...series] as uPlot.AlignedData, element);
    const observer = new ResizeObserver(() => {
      const width = element.clientWidth;
      if (width > 0 && width !== plot.width) plot.setSize({ width, height });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [buckets, gaps, height, zone.utc]);
  if (buckets.length === 0) return <p class="empty">No records in this range.</p>;
  const total = buckets.map(grouped).reduce((sum, one) => sum.map((value, at) => value + one[at]!), [0, 0, 0, 0]);
  return (
    <figure class="chart">
      <div ref={box} aria-hidden="true" />
      <figcaption>
        {GROUPS.map((op, at) => (
          <span key={op} class={`key op-${op}`}><i aria-hidden="true" /> {op} {count(total[at]!)}</span>
        ))}
        {gaps.length > 0 && <span class="mark gap"><span aria-hidden="true">▨</span> gap</span>}
        <span>{clock(buckets[0]!.from)} to {clock(buckets[buckets.length - 1]!.to)} {zone.utc ? "UTC" : "local time"}</span>
      </figcaption>
    </figure>
  );
}

/** Times of the axis: with the day in a range of days, with milliseconds in one of seconds. */
function labels(splits: number[], to: string, from: string): string[] {
  const range = Date.parse(to) - Date.parse(from);
  return splits.map((seconds) => {
    const text = clock(seconds * 1000);
    return range > 86_400_000 ? text.slice(5, 16) : text.slice(11, range < 10_000 ? 23 : 19);
  });
}

function hatch(plot: uPlot, gaps: GapSpan[], color: string): void {
  const { ctx, bbox } = plot;
  const step = 6 * devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.strokeStyle = color;
  ctx.lineWidth = devicePixelRatio;
  for (const gap of gaps) {
    const began = gap.since ?? gap.begin?.at;
    const from = began ? plot.valToPos(Date.parse(began) / 1000, "x", true) : bbox.left;
    const to = gap.end ? plot.valToPos(Date.parse(gap.end.at) / 1000, "x", true) : bbox.left + bbox.width;
    const [left, right] = [Math.max(from, bbox.left), Math.min(Math.max(to, from + 4 * devicePixelRatio), bbox.left + bbox.width)];
    if (right <= left) continue;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, bbox.top, right - left, bbox.height);
    ctx.clip();
    ctx.beginPath();
    for (let x = left - bbox.height; x < right; x += step) {
      ctx.moveTo(x, bbox.top + bbox.height);
      ctx.lineTo(x + bbox.height, bbox.top);
    }
    ctx.stroke();
    ctx.restore();
  }
  ctx.restore();
}
