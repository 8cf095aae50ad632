import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { useKeys, useLoad, useWhere } from "./hooks";
import { address, ask, logOut, whenLoggedOut } from "./lib/api";
import { SCREENS, type Screen, type Where } from "./lib/place";
import type { SourceItem } from "./lib/types";
import { Failure, zone } from "./parts";
import { Activity } from "./screens/activity";
import { Changes } from "./screens/changes";
import { Diff } from "./screens/diff";
import { Explorer } from "./screens/explorer";
import { Login } from "./screens/login";
import { Overview } from "./screens/overview";
import { Sinks } from "./screens/sinks";

export interface ScreenProps {
  where: Where;
  go: (change: Partial<Where>, replace?: boolean) => void;
  restricted: boolean;
}

const VIEWS: { [screen in Screen]: (props: ScreenProps) => preact.JSX.Element } = {
  overview: Overview, explorer: Explorer, activity: Activity, changes: Changes, diff: Diff, sinks: Sinks,
};

const KEYS: [key: string, meaning: string][] = [
  ["/", "go to the first field of the screen"],
  ["↑ ↓", "move in the list of the explorer"],
  ["→ ←", "open a znode, go to its parent"],
  ["[ ]", "previous and next change below the selection"],
  ["d", "compare the moment with now"],
  ["l", "live view of the changes"],
  ["t", "now"],
  ["?", "this help"],
];

interface Session { caller: string; restricted: boolean }

function App() {
  const [session, setSession] = useState<Session | null | "unknown">("unknown");
  const [expired, setExpired] = useState(false);
  const enter = () => ask<Session>(address("/session")).then(setSession, () => setSession(null));
  useEffect(() => {
    whenLoggedOut(() => {
      setSession((old) => {
        if (old !== null && old !== "unknown") setExpired(true);
        return null;
      });
    });
    if (location.hash.startsWith("#code=")) setSession(null);
    else void enter();
  }, []);
  if (session === "unknown") return <p class="empty" role="status">Loading…</p>;
  if (session === null) return <Login expired={expired} done={() => { setExpired(false); void enter(); }} />;
  return <Inside session={session} leave={() => void logOut().then(() => { setExpired(false); setSession(null); })} />;
}

function Inside({ session, leave }: { session: Session; leave: () => void }) {
  const [where, go] = useWhere();
  const [utc, setUtc] = useState(zone.utc);
  const help = useRef<HTMLDialogElement>(null);
  const sources = useLoad("sources", (signal) => ask<SourceItem[]>(address("/sources"), signal));
  const names = sources.data?.map((one) => one.source) ?? [];
  useEffect(() => {
    const first = names[0];
    if (first !== undefined && !names.includes(where.source)) go({ source: first }, true);
  }, [names.join("/"), where.source]);
  useEffect(() => {
    document.title = `${where.params["path"] ?? where.params["under"] ?? where.screen} – zkbridge`;
  }, [where]);
  const keep = (...wanted: string[]) => {
    const kept: { [name: string]: string } = {};
    for (const name of wanted) if (where.params[name]) kept[name] = where.params[name]!;
    return kept;
  };
  const subtree = where.params["under"] ?? where.params["path"] ?? "/";
  useKeys({
    "/": () => document.querySelector<HTMLInputElement>("main input:not([type=range])")?.focus(),
    "?": () => help.current?.showModal(),
    d: () => go({ screen: "diff", params: { under: subtree, a: where.params["at"] ?? where.params["a"] ?? "" } }),
    l: () => go({ screen: "changes", params: { ...keep("glob", "op"), under: subtree, live: "1" } }),
    t: () => { const { at: _, ...rest } = where.params; go({ params: rest }); },
  });
  const View = VIEWS[where.screen];
  const known = names.includes(where.source);
  return (
    <>
      <header>
        <a class="skip" href="#content" onClick={(event) => { event.preventDefault(); document.querySelector<HTMLElement>("main")?.focus(); }}>To the content</a>
        <strong class="brand">zkbridge</strong>
        {names.length > 1 && (
          <select aria-label="source" value={where.source} onChange={(event) => go({ source: event.currentTarget.value, params: {} })}>
            {names.map((name) => <option key={name}>{name}</option>)}
          </select>
        )}
        <nav aria-label="screens">
          {SCREENS.map((screen) => (
            <button key={screen} type="button" aria-current={screen === where.screen ? "page" : undefined}
              onClick={() => go({ screen, params: screen === "explorer" ? { path: subtree } : screen === "overview" || screen === "sinks" ? {} : { under: subtree } })}>
              {screen[0]!.toUpperCase() + screen.slice(1)}
            </button>
          ))}
        </nav>
        <div class="tools">
          <button type="button" onClick={() => { zone.utc = !utc; setUtc(!utc); }} title={utc ? "show local times" : "show times in UTC"}>{utc ? "UTC" : "Local time"}</button>
          <button type="button" onClick={() => help.current?.showModal()} aria-label="keys">?</button>
          <button type="button" onClick={leave} title={session.caller}>Log out</button>
        </div>
      </header>
      <main id="content" tabIndex={-1} key={`${where.screen} ${where.source} ${utc}`}>
        {sources.error && <Failure problem={sources.error} retry={sources.reload} />}
        {known && <View where={where} go={go} restricted={session.restricted} />}
        {sources.data && names.length === 0 && <p class="empty">This bridge has no source.</p>}
      </main>
      <dialog ref={help} aria-label="keys">
        <h2>Keys</h2>
        <dl class="facts">{KEYS.map(([key, meaning]) => [<dt key={key}><kbd>{key}</kbd></dt>, <dd key={meaning}>{meaning}</dd>])}</dl>
        <p>Signs: ● exact, ◐ superseded, ◔ missed, ┆ bounded, ▨ gap, ○ not known.</p>
        <form method="dialog"><button type="submit">Close</button></form>
      </dialog>
    </>
  );
}

const root = document.getElementById("app");
if (root) render(<App />, root);
