import type { Output } from './io.js';
import { makePrintable } from './printable.js';

const CLEAR_LINE = '\r\u001b[K';

/** An event as it goes into a machine's log. */
export interface LogEvent extends Readonly<Record<string, unknown>> {
  readonly type: string;
}

/** What a reader that does not read may leave lying; beyond that, lines are left out. */
const MAX_BACKLOG_BYTES = 1_048_576;

/**
 * What a command tells on standard error: for people a line, live where a terminal shows it, or JSON for machines. A
 * reader that does not read misses lines; it never holds up the work.
 */
export class CommandLog {
  readonly #output: Output;
  #isJson: boolean;
  #isQuiet = false;
  #isLineOpen = false;
  #leftOut = 0;
  #lastWrite: Promise<void> = Promise.resolve();

  constructor(output: Output, isJson: boolean) {
    this.#output = output;
    this.#isJson = isJson;
  }

  get isJson(): boolean {
    return this.#isJson;
  }

  configure({ isJson, isQuiet }: { readonly isJson: boolean; readonly isQuiet: boolean }): void {
    this.#isJson = isJson;
    this.#isQuiet = isQuiet;
  }

  /** A step on the way to a result: on a terminal it replaces the step before. */
  step(event: LogEvent, text: string): void {
    if (this.#isJson || !this.#output.isTerminal) {
      this.entry(event, text);
      return;
    }
    if (this.#isQuiet) return;
    this.#isLineOpen = true;
    const width = Math.max(20, this.#output.columns - 1);
    this.#write(`${CLEAR_LINE}${makePrintable(text).slice(0, width)}`);
  }

  /** A line that stays. */
  entry(event: LogEvent, text: string): void {
    if (this.#isQuiet) return;
    if (this.#output.backlogBytes > MAX_BACKLOG_BYTES) {
      this.#leftOut += 1;
      return;
    }
    this.#tellGap();
    this.#writeLine(this.#isJson ? JSON.stringify(event) : makePrintable(text));
  }

  /** What ended the command; never left out. `text` is printed as it is. */
  failure(event: LogEvent, text: string): void {
    this.#tellGap();
    this.#writeLine(this.#isJson ? JSON.stringify(event) : text);
  }

  /** Settles when all of it has left this process, or cannot; never, where nobody reads. */
  flushed(): Promise<void> {
    return this.#lastWrite;
  }

  #tellGap(): void {
    if (this.#leftOut === 0) return;
    const event = { type: 'left-out', lines: this.#leftOut };
    this.#leftOut = 0;
    this.#writeLine(this.#isJson ? JSON.stringify(event) : `${event.lines} lines left out: nobody was reading`);
  }

  /** Takes the live line away first, so that this one starts where a line does. */
  #writeLine(line: string): void {
    const clearing = this.#isLineOpen ? CLEAR_LINE : '';
    this.#isLineOpen = false;
    this.#write(`${clearing}${line}\n`);
  }

  #write(text: string): void {
    this.#lastWrite = this.#output.write(text);
  }
}
