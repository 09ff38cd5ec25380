import { dirname, resolve } from 'node:path';
import type { DpsError } from '../errors.js';
import { quoteForShell } from '../shell-word.js';
import type { DurableIo, DurableStats } from './durable-io.js';
import { type StoreStep, storeError, storeErrorFrom, systemCodeOf, unusableCode } from './store-failure.js';

/** As `storeErrorFrom`; where access was denied, it looks for what denied it. Never throws. */
export async function explainedStoreError(io: DurableIo, error: unknown, step: StoreStep): Promise<DpsError> {
  const { userId } = io;
  const code = systemCodeOf(error);
  const general = storeErrorFrom(error, step, userId);
  if (general === error || userId === undefined || (code !== 'EACCES' && code !== 'EPERM')) return general;
  const problem = await accessProblem(io, step.path, userId);
  if (problem === undefined) return general;
  const what = step.operation === 'read' ? 'cannot be read' : 'cannot be written';
  return storeError(unusableCode(step), step, `${what} by user ${userId} (${code}): ${problem}`, error);
}

/** The nearest place on the way up that can be looked at: what is below it is missing, or it lets nobody through. */
async function accessProblem(io: DurableIo, path: string, userId: number): Promise<string | undefined> {
  for (let place = resolve(path); ; place = dirname(place)) {
    const stats = await io.stat(place).catch(() => undefined);
    if (stats !== undefined) return describeAccess({ ...stats, place, isAbove: place !== resolve(path) }, userId);
    if (place === dirname(place)) return undefined;
  }
}

interface Found extends DurableStats {
  readonly place: string;
  /** What is asked for is below it. */
  readonly isAbove: boolean;
}

function describeAccess({ place, isAbove, kind, userId, mode }: Found, ownId: number): string | undefined {
  const name = quoteForShell(place);
  const found = `${place} belongs to user ${userId} and has mode ${mode.toString(8).padStart(4, '0')}`;
  if (userId !== ownId) {
    return isAbove
      ? `${found}. Have its owner make a folder for user ${ownId} there and let it through, or choose another folder.`
      : `${found}. Run as user ${userId}, or make user ${ownId} the owner: chown ${ownId} ${name}`;
  }
  const needed = kind === 'folder' ? 0o700 : 0o600;
  if ((mode & needed) === needed) return undefined;
  return `${found}, which keeps that user out, too. Run: chmod ${needed.toString(8)} ${name}`;
}
