import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { inspect } from 'node:util';
import { expect, onTestFinished } from 'vitest';
import { PROGRESS_CHANNEL } from '../../src/diagnostics.js';
import type { Canaries, Leak } from './canaries.js';

/** Named texts: what came out, and where. */
export type Outputs = Map<string, string>;

/** Every way in which a value gets into a log without anybody asking for a member of it. */
export function printed(name: string, value: unknown): Outputs {
  return new Map([
    [`${name}: inspect`, inspect(value)],
    [
      `${name}: inspect, everything`,
      inspect(value, {
        depth: Number.POSITIVE_INFINITY,
        showHidden: true,
        maxStringLength: null,
        maxArrayLength: null,
      }),
    ],
    [`${name}: JSON`, String(safely(() => JSON.stringify(value)))],
    [`${name}: String`, String(safely(() => String(value)))],
    [`${name}: spread`, inspect({ ...(value as object) }, { depth: Number.POSITIVE_INFINITY })],
  ]);
}

/** An error in every form, and every own member of it, of its causes and of what hangs on them, hidden or not. */
export function errorOutputs(name: string, error: unknown): Outputs {
  const outputs = printed(name, error);
  for (const [path, text] of membersOf(error)) outputs.set(`${name}${path}`, text);
  return outputs;
}

function* membersOf(root: unknown): Generator<[path: string, text: string]> {
  const seen = new Set<unknown>();
  const queue: [path: string, value: unknown][] = [['', root]];
  for (const [path, value] of queue) {
    if (typeof value === 'string') yield [path, value];
    if (ArrayBuffer.isView(value)) yield [path, Buffer.from(value.buffer, value.byteOffset, value.byteLength).join()];
    else if (isObject(value) && !seen.has(value)) {
      seen.add(value);
      for (const key of Reflect.ownKeys(value)) {
        yield [`${path} key`, String(key)];
        queue.push([`${path}.${String(key)}`, safely(() => Reflect.get(value, key))]);
      }
    }
  }
}

function isObject(value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function';
}

function safely(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    return error;
  }
}

/** What this process says by itself while a test runs. */
export interface Recording {
  /** Diagnostics events, warnings, standard output and standard error since the start. */
  outputs(): Outputs;
}

/** Listens until the test is over. Warnings go here and not to the terminal. */
export function startRecording(): Recording {
  const events: string[] = [];
  const warnings: string[] = [];
  const written: string[] = [];
  const onEvent = (event: unknown): void => {
    events.push(JSON.stringify(event), inspect(event, { depth: Number.POSITIVE_INFINITY, showHidden: true }));
  };
  const onWarning = (warning: Error): void => {
    warnings.push(inspect(warning, { depth: Number.POSITIVE_INFINITY, showHidden: true }));
  };
  subscribe(PROGRESS_CHANNEL, onEvent);
  const printers = process.listeners('warning');
  process.removeAllListeners('warning').on('warning', onWarning);
  const restore = [process.stdout, process.stderr].map((stream) => tap(stream, (text) => written.push(text)));
  onTestFinished(() => {
    unsubscribe(PROGRESS_CHANNEL, onEvent);
    process.off('warning', onWarning);
    for (const printer of printers) process.on('warning', printer);
    for (const undo of restore) undo();
  });
  return {
    outputs: () =>
      new Map([
        ['diagnostics channel', events.join('\n')],
        ['process warnings', warnings.join('\n')],
        ['what this process wrote', written.join('')],
      ]),
  };
}

function tap(stream: NodeJS.WriteStream, listener: (text: string) => void): () => void {
  const own = Object.getOwnPropertyDescriptor(stream, 'write');
  const write = stream.write;
  Object.defineProperty(stream, 'write', {
    configurable: true,
    writable: true,
    value(this: NodeJS.WriteStream, ...given: Parameters<typeof write>) {
      const [chunk] = given as readonly unknown[];
      listener(typeof chunk === 'string' ? chunk : Buffer.from(chunk as Uint8Array).toString('latin1'));
      return write.apply(this, given);
    },
  });
  return () => {
    if (own === undefined) Reflect.deleteProperty(stream, 'write');
    else Object.defineProperty(stream, 'write', own);
  };
}

/** All leaks in all outputs. */
export function findLeaks(canaries: Canaries, ...outputs: readonly Outputs[]): Leak[] {
  return outputs.flatMap((each) => [...each].flatMap(([channel, text]) => canaries.leaksIn(channel, text)));
}

/** Fails with every leak named. */
export function expectNoLeaks(canaries: Canaries, ...outputs: readonly Outputs[]): void {
  expect(findLeaks(canaries, ...outputs)).toEqual([]);
}
