import { useEffect, useRef, useState } from "preact/hooks";
import { Problem } from "./lib/api";
import { hashOf, parseWhere, type Where } from "./lib/place";
import { Pages, type Page } from "./lib/pages";

export interface Loaded<T> {
  data: T | null;
  error: Problem | null;
  loading: boolean;
  reload: () => void;
}

function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  return new Problem(0, String(error), "reload the page; if it happens again, report it", "page");
}

/** The answer to a question; the last one stays visible while the next one is on its way. */
export function useLoad<T>(key: string, load: (signal: AbortSignal) => Promise<T>): Loaded<T> {
  const [state, set] = useState<{ data: T | null; error: Problem | null; loading: boolean }>({
    data: null, error: null, loading: true,
  });
  const [round, setRound] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    set((old) => ({ ...old, loading: true }));
    load(stop.signal).then(
      (data) => !stop.signal.aborted && set({ data, error: null, loading: false }),
      (error) => !stop.signal.aborted && set({ data: null, error: asProblem(error), loading: false }),
    );
    return () => stop.abort();
  }, [key, round]);
  return { ...state, reload: () => setRound((old) => old + 1) };
}

export interface LoadedPages<T, P> {
  items: T[];
  pages: P[];
  complete: boolean;
  loading: boolean;
  error: Problem | null;
  more: () => void;
}

/** A list, page by page. */
export function usePages<T, P extends Page<T>>(
  key: string,
  read: (cursor: string | null) => Promise<P>,
): LoadedPages<T, P> {
  const pages = useRef<Pages<T, P> | null>(null);
  const [state, set] = useState({ loading: true, error: null as Problem | null, round: 0 });
  const more = () => {
    const current = pages.current;
    if (!current) return;
    set((old) => ({ ...old, loading: true, error: null }));
    current.more().then(
      () => pages.current === current && set((old) => ({ loading: false, error: null, round: old.round + 1 })),
      (error) =>
        pages.current === current && set((old) => ({ loading: false, error: asProblem(error), round: old.round + 1 })),
    );
  };
  useEffect(() => {
    const made = new Pages<T, P>(read);
    pages.current = made;
    more();
    return () => made.stop();
  }, [key]);
  const current = pages.current;
  return {
    items: current?.items ?? [],
    pages: current?.pages ?? [],
    complete: current?.complete ?? false,
    loading: state.loading,
    error: state.error,
    more,
  };
}

export function useWhere(): [Where, (change: Partial<Where>, replace?: boolean) => void] {
  const [where, set] = useState(() => parseWhere(location.hash));
  useEffect(() => {
    const read = () => set(parseWhere(location.hash));
    addEventListener("hashchange", read);
    addEventListener("popstate", read);
    return () => {
      removeEventListener("hashchange", read);
      removeEventListener("popstate", read);
    };
  }, []);
  const go = (change: Partial<Where>, replace = false) => {
    const next = { ...parseWhere(location.hash), ...change };
    const hash = hashOf(next);
    if (hash !== location.hash) {
      if (replace) history.replaceState(null, "", hash);
      else history.pushState(null, "", hash);
    }
    // As the address holds it: a parameter without a value is none.
    set(parseWhere(hash));
  };
  return [where, go];
}

/** Keys of the page; not while somebody types. */
export function useKeys(keys: { [key: string]: () => void }): void {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      const types = target.matches("input:not([type=range]):not([type=checkbox]), textarea, select");
      if (event.ctrlKey || event.metaKey || event.altKey || types) return;
      const handler = latest.current[event.key];
      if (handler) {
        event.preventDefault();
        handler();
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}
