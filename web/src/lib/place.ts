// The state of the page in the hash of its address: #/SOURCE/SCREEN?path=…&at=…

export const SCREENS = ["overview", "explorer", "activity", "changes", "diff", "sinks"] as const;
export type Screen = (typeof SCREENS)[number];

export interface Where {
  source: string;
  screen: Screen;
  params: { [name: string]: string };
}

export function parseWhere(hash: string): Where {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [source = "", screen = ""] = path.split("/");
  const params: { [name: string]: string } = {};
  for (const [name, value] of new URLSearchParams(query)) if (value !== "") params[name] = value;
  return {
    source: unescaped(source),
    screen: (SCREENS as readonly string[]).includes(screen) ? (screen as Screen) : "overview",
    params,
  };
}

export function hashOf(where: Where): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(where.params)) if (value !== "") query.set(name, value);
  const text = query.toString();
  return `#/${encodeURIComponent(where.source)}/${where.screen}${text === "" ? "" : "?" + text}`;
}

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

export function parentOf(path: string): string {
  const at = path.lastIndexOf("/");
  return at <= 0 ? "/" : path.slice(0, at);
}

export function joined(parent: string, name: string): string {
  return parent === "/" ? `/${name}` : `${parent}/${name}`;
}

/** Each path from the root to this one. */
export function ancestors(path: string): string[] {
  const names = path.split("/").filter((name) => name !== "");
  return ["/", ...names.map((_, at) => "/" + names.slice(0, at + 1).join("/"))];
}
