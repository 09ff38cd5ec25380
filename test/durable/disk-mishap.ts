import { isDpsError } from '../../src/errors.js';
import { SimulatedDisk, systemError } from './simulated-disk.js';

export const MISHAPS = ['power cut', 'kill', 'ENOSPC', 'EIO', 'EROFS', 'EACCES', 'EMFILE'] as const;

/** What happens to a piece of work on a disk, and when. */
export interface Mishap {
  readonly kind: (typeof MISHAPS)[number];
  /** Instead of this call of the work, counted from 0; past the last one it happens right after the work. */
  readonly atCall: number;
}

/** A disk that may take little at a time. */
export function anyDisk(random: () => number): SimulatedDisk {
  const disk = new SimulatedDisk('/var', '/var/lib');
  if (random() < 0.5) disk.maxWriteBytes = 1 + Math.floor(random() * 700);
  return disk;
}

/** How the work ended, and how many calls it has made of the disk. */
export interface Ended {
  /** `failed` with an error of a code that was expected, `gone` with its process. */
  readonly outcome: 'done' | 'failed' | 'gone';
  readonly calls: number;
}

/** Lets the mishap happen to the work. Throws what the work fails with, unless its code is one of those `expected`. */
export async function meetMishap(
  disk: SimulatedDisk,
  { kind, atCall }: Mishap,
  expected: RegExp,
  work: () => Promise<void>,
): Promise<Ended> {
  const callsBefore = disk.calls.length;
  let count = 0;
  let die: () => void = () => undefined;
  const gone = new Promise<'gone'>((resolve) => {
    die = () => resolve('gone');
  });
  disk.onCall = () => {
    if (count++ < atCall) return undefined;
    if (kind === 'power cut' || kind === 'kill') {
      die();
      return new Promise(() => undefined);
    }
    if (count - 1 === atCall) throw systemError(kind);
    return undefined;
  };
  const ended = work().then(
    () => 'done' as const,
    (error: unknown) => {
      if (isDpsError(error) && expected.test(error.code)) return 'failed' as const;
      throw error;
    },
  );
  const outcome = await Promise.race([ended, gone]);
  const calls = disk.calls.length - callsBefore;
  disk.onCall = () => undefined;
  return { outcome, calls };
}
