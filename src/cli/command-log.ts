import type { Output } from './io.js';
import { makePrintable } from './printable.js';

const CLEAR_LINE = '\r\u001b[K';

/** An event as it goes into a machine's log. */
export interface LogEvent extends Readonly<Record<string, unknown>> {
  readonly type: string;
}

/** What a command tells on standard error: for people a line, live where a terminal shows it, or JSON for machines. */
export class CommandLog {
  readonly #output: Output;
  #isJson: boolean;
  #isQuiet = false;
  #isLineOpen = false;

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
  async step(event: LogEvent, text: string): Promise<void> {
    if (this.#isQuiet) return;
    if (this.#isJson || !this.#output.isTerminal) return this.entry(event, text);
    this.#isLineOpen = true;
    const width = Math.max(20, this.#output.columns - 1);
    await this.#output.write(`${CLEAR_LINE}${makePrintable(text).slice(0, width)}`);
  }

  /** A line that stays. */
  async entry(event: LogEvent, text: string): Promise<void> {
    if (this.#isQuiet) return;
    await this.#writeLine(this.#isJson ? JSON.stringify(event) : makePrintable(text));
  }

  /** What ended the command; never left out. `text` is printed as it is. */
  async failure(event: LogEvent, text: string): Promise<void> {
    await this.#writeLine(this.#isJson ? JSON.stringify(event) : text);
  }

  /** Takes the live line away first, so that this one starts where a line does. */
  async #writeLine(line: string): Promise<void> {
    const clearing = this.#isLineOpen ? CLEAR_LINE : '';
    this.#isLineOpen = false;
    await this.#output.write(`${clearing}${line}\n`);
  }
}
