/** What happens in virtual time, in order; at the same moment in the order in which it was put in. */
export class EventQueue<Event> {
  readonly #heap: Entry<Event>[] = [];
  #count = 0;

  get size(): number {
    return this.#heap.length;
  }

  /** When the next event is due; infinity when there is none. */
  get nextAtMs(): number {
    return this.#heap[0]?.atMs ?? Number.POSITIVE_INFINITY;
  }

  push(atMs: number, event: Event): void {
    const heap = this.#heap;
    this.#count += 1;
    const entry = { atMs, order: this.#count, event };
    let index = heap.length;
    while (index > 0) {
      const parentIndex = (index - 1) >> 1;
      const parent = heap[parentIndex];
      if (parent === undefined || !isBefore(entry, parent)) break;
      heap[index] = parent;
      index = parentIndex;
    }
    heap[index] = entry;
  }

  pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first?.event;
    let index = 0;
    for (;;) {
      const childIndex = this.#earlierChild(index);
      const child = heap[childIndex];
      if (child === undefined || !isBefore(child, last)) break;
      heap[index] = child;
      index = childIndex;
    }
    heap[index] = last;
    return first.event;
  }

  #earlierChild(index: number): number {
    const left = 2 * index + 1;
    const first = this.#heap[left];
    const second = this.#heap[left + 1];
    return first !== undefined && second !== undefined && isBefore(second, first) ? left + 1 : left;
  }
}

interface Entry<Event> {
  readonly atMs: number;
  readonly order: number;
  readonly event: Event;
}

function isBefore<Event>(a: Entry<Event>, b: Entry<Event>): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
