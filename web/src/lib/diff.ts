// A line diff (Myers), with a bound on its work.

export interface DiffLine { sign: " " | "+" | "-"; text: string }

/** More edits are not searched for: then everything is removed and added. */
export const EDITS_MAX = 1000;
/** Lines of a longer text are not compared. */
export const LINES_MAX = 20_000;

export function diffLines(before: string, after: string): DiffLine[] {
  const a = lines(before);
  const b = lines(after);
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const same = (from: number, to: number): DiffLine[] => a.slice(from, to).map((text) => ({ sign: " ", text }));
  return [
    ...same(0, start),
    ...middle(a.slice(start, a.length - end), b.slice(start, b.length - end)),
    ...same(a.length - end, a.length),
  ];
}

function lines(text: string): string[] {
  return text === "" ? [] : text.split("\n");
}

function middle(a: string[], b: string[]): DiffLine[] {
  const replaced = (): DiffLine[] => [
    ...a.map((text): DiffLine => ({ sign: "-", text })),
    ...b.map((text): DiffLine => ({ sign: "+", text })),
  ];
  if (a.length === 0 || b.length === 0 || a.length + b.length > LINES_MAX) return replaced();
  const most = Math.min(a.length + b.length, EDITS_MAX);
  const trace: Int32Array[] = [];
  const v = new Int32Array(2 * most + 3);
  const mid = most + 1;
  for (let d = 0; d <= most; d++) {
    trace.push(v.slice(mid - d - 1, mid + d + 2));
    for (let k = -d; k <= d; k += 2) {
      let x = k === -d || (k !== d && v[mid + k - 1]! < v[mid + k + 1]!) ? v[mid + k + 1]! : v[mid + k - 1]! + 1;
      let y = x - k;
      while (x < a.length && y < b.length && a[x] === b[y]) {
        x++;
        y++;
      }
      v[mid + k] = x;
      if (x >= a.length && y >= b.length) return walkBack(a, b, trace);
    }
  }
  return replaced();
}

function walkBack(a: string[], b: string[], trace: Int32Array[]): DiffLine[] {
  const out: DiffLine[] = [];
  let x = a.length;
  let y = b.length;
  for (let d = trace.length - 1; d >= 0; d--) {
    const v = trace[d]!;
    const at = (k: number) => v[k + d + 1]!;
    const k = x - y;
    const previous = k === -d || (k !== d && at(k - 1) < at(k + 1)) ? k + 1 : k - 1;
    const fromX = d === 0 ? 0 : at(previous);
    const fromY = d === 0 ? 0 : fromX - previous;
    while (x > fromX && y > fromY) {
      out.push({ sign: " ", text: a[--x]! });
      y--;
    }
    if (d === 0) break;
    if (x > fromX) out.push({ sign: "-", text: a[--x]! });
    else if (y > fromY) out.push({ sign: "+", text: b[--y]! });
  }
  return out.reverse();
}
