// Moments as people type them, in the zone in which the page shows times.

const DATE = /^(\d{4})-(\d{2})-(\d{2})$/;
const DATE_TIME = /^(\d{4})-(\d{2})-(\d{2})[T ](\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3}))?)?$/;
const CLOCK = /^(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3}))?)?$/;

/** The names of parameters that are moments. */
const MOMENTS = ["at", "from", "to", "a", "b"];

/** A time of this zone with its offset, which is the same moment everywhere. */
function withOffset(date: Date): string {
  const pad = (value: number, width = 2) => String(value).padStart(width, "0");
  const offset = -date.getTimezoneOffset();
  const [sign, minutes] = [offset < 0 ? "-" : "+", Math.abs(offset)];
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`
    + `T${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`
    + `${sign}${pad(Math.floor(minutes / 60))}:${pad(minutes % 60)}`;
}

function millis(text: string | undefined): number {
  return Number((text ?? "").padEnd(3, "0"));
}

/**
 * A moment that was typed for the parameter `name`, for the API, to which a time without a zone is one of UTC. A date
 * is its first moment, and as the end of a range its last.
 */
export function typedMoment(name: string, text: string, utc: boolean, now: Date): string {
  if (utc || !MOMENTS.includes(name)) return text;
  const number = (part: string | undefined) => Number(part ?? 0);
  const date = DATE.exec(text);
  if (date) return day(name, new Date(number(date[1]), number(date[2]) - 1, number(date[3])), text, number(date[3]));
  if (text === "today" || text === "yesterday") {
    return day(name, new Date(now.getFullYear(), now.getMonth(), now.getDate() - (text === "today" ? 0 : 1)), text);
  }
  const full = DATE_TIME.exec(text);
  if (full) {
    const [, y, mo, d, h, mi, s, ms] = full;
    return valid(new Date(number(y), number(mo) - 1, number(d), number(h), number(mi), number(s), millis(ms)), text, number(h), number(d));
  }
  const clock = CLOCK.exec(text);
  if (clock) {
    const [, h, mi, s, ms] = clock;
    const of = (back: number) =>
      new Date(now.getFullYear(), now.getMonth(), now.getDate() - back, number(h), number(mi), number(s), millis(ms));
    return valid(of(0) <= now ? of(0) : of(1), text, number(h));
  }
  return text;
}

function day(name: string, first: Date, text: string, dayOfMonth = first.getDate()): string {
  if (first.getDate() !== dayOfMonth) return text;
  const last = new Date(first.getFullYear(), first.getMonth(), first.getDate() + 1);
  return valid(name === "to" ? new Date(last.getTime() - 1) : first, text);
}

/** The date, or the text where it names no date or hour: the API says why it is none. */
function valid(date: Date, text: string, hour?: number, dayOfMonth?: number): string {
  const isOther = (hour !== undefined && hour > 23) || (dayOfMonth !== undefined && date.getDate() !== dayOfMonth);
  return Number.isNaN(date.getTime()) || isOther ? text : withOffset(date);
}
