import { usePages } from "../hooks";
import { get } from "../lib/api";
import { visible } from "../lib/decode";
import type { DiffItem, List } from "../lib/types";
import { Doubts, Field, Mark, MomentLine, More, ValueDiff, count, typed } from "../parts";
import type { ScreenProps } from "../main";

const PAGE = 200;
const SIGNS: { [kind: string]: string } = { created: "+", deleted: "−", changed: "~", recreated: "±", rewritten: "=", uncertain: "?" };

export function Diff({ where, go }: ScreenProps) {
  const under = where.params["under"] ?? "/";
  const a = where.params["a"] ?? "1h";
  const b = where.params["b"] ?? "";
  const kind = where.params["kind"] ?? "";
  const open = where.params["path"] ?? "";
  const pages = usePages<DiffItem, List<DiffItem>>(JSON.stringify([where.source, under, a, b, kind]), (cursor) =>
    get(where.source, "diff", { under, a, b, kind, cursor, limit: PAGE }));
  const first = pages.pages[0];
  const last = pages.pages[pages.pages.length - 1];
  const counts = new Map<string, number>();
  for (const item of pages.items) counts.set(item.kind, (counts.get(item.kind) ?? 0) + 1);
  return (
    <>
      <h1>Difference</h1>
      <form class="filters" onSubmit={(event) => {
        event.preventDefault();
        const next = { ...where.params, path: "" };
        for (const [name, value] of new FormData(event.currentTarget as HTMLFormElement)) (next as any)[name] = typed(name, String(value));
        go({ params: next });
      }}>
        <Field label="Under"><input name="under" key={under} value={under} spellcheck={false} /></Field>
        <Field label="A"><input name="a" key={`a${a}`} value={a} /></Field>
        <Field label="B"><input name="b" key={`b${b}`} value={b} placeholder="now" /></Field>
        <Field label="Kinds"><input name="kind" key={`kind${kind}`} value={kind} placeholder="created,changed" spellcheck={false} /></Field>
        <button type="submit">Compare</button>
        <button type="button" onClick={() => go({ params: { ...where.params, a: b || "now", b: a, path: "" } })}>Swap</button>
      </form>
      {first?.from && <div class="pair"><strong>A</strong><MomentLine moment={first.from} /><strong>B</strong><MomentLine moment={first.to} /></div>}
      {first && (
        <p class="counts" role="status">
          {Object.keys(SIGNS).map((kind) => <span key={kind} class={`kind ${kind}`}>{SIGNS[kind]}{count(counts.get(kind) ?? 0)} {kind}</span>)}
          {!pages.complete && <span>so far</span>}
        </p>
      )}
      {last && <Doubts of={last.doubts} />}
      {last && last.gaps.length > 0 && <p class="warning">▨ {count(last.gaps.length)} marks of gaps lie between the two moments.</p>}
      <ol class="rows">
        {pages.items.map((item) => {
          const is = open === item.path;
          return (
            <li key={item.path}>
              <button type="button" aria-expanded={is} onClick={() => go({ params: { ...where.params, path: is ? "" : item.path } }, true)}>
                <span class={`kind ${item.kind}`}>{SIGNS[item.kind] ?? "?"} {item.kind}</span>
                <span class="grow at">{visible(item.path)}</span>
                {item.before && !item.before.certain && <Mark of={item.before.certainty} doubts={item.before.doubts} />}
                {item.after && !item.after.certain && <Mark of={item.after.certainty} doubts={item.after.doubts} />}
              </button>
              {is && (
                <div class="detail">
                  <Doubts of={[...(item.before?.doubts ?? []), ...(item.after?.doubts ?? [])]} />
                  <ValueDiff before={item.before?.data} after={item.after?.data} />
                  <button type="button" class="link" onClick={() => go({ screen: "explorer", params: { path: item.path, at: b } })}>Show in the explorer</button>
                </div>
              )}
            </li>
          );
        })}
      </ol>
      {pages.complete && pages.items.length === 0 && <p class="empty">Nothing differs between these moments.</p>}
      <More of={pages} />
    </>
  );
}
