import { dirname, join } from 'node:path';
import { SystemCallTracer, type TracedOrder } from './system-call-tracer.js';

/** For processes that save, or forget, a record. */
export const makeSaveTracer = (): Promise<SystemCallTracer> => SystemCallTracer.make('save-once.ts');

export interface SaveOrder {
  readonly directory: string;
  readonly doing: 'save' | 'forget';
  readonly number: number;
}

/** What `save-once.ts` is told, and all that a store may touch; its token is that of `save-once.ts`. */
export function tracedSave({ directory, doing, number }: SaveOrder): TracedOrder {
  const draft = `device.lock.${'ab'.repeat(8)}.new`;
  const names = ['device.a', 'device.b', 'device.new', 'device.lock', draft];
  return {
    args: [directory, doing, String(number)],
    paths: [dirname(directory), directory, ...names.map((name) => join(directory, name))],
  };
}
