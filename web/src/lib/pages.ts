// Reads lists page by page.

export interface Page<T> { items: T[]; next?: string | null }

/** Pages without an item that one step reads before it lets the person decide. */
export const EMPTY_PAGES_MAX = 20;

/**
 * The items of a list. A page may be short or empty and have a `next`: its budget ended, so `more` goes on until some
 * items arrive, or EMPTY_PAGES_MAX pages were empty.
 */
export class Pages<T, P extends Page<T> = Page<T>> {
  items: T[] = [];
  pages: P[] = [];
  complete = false;
  private next: string | null = null;
  private stopped = false;

  constructor(private read: (cursor: string | null) => Promise<P>) {}

  stop(): void {
    this.stopped = true;
  }

  async more(): Promise<void> {
    for (let empty = 0; empty < EMPTY_PAGES_MAX && !this.complete && !this.stopped; empty++) {
      const page = await this.read(this.next);
      if (this.stopped) return;
      this.pages.push(page);
      this.items = [...this.items, ...page.items];
      this.next = page.next ?? null;
      this.complete = this.next === null;
      if (page.items.length > 0) return;
    }
  }
}
