import { basename, delimiter, dirname, isAbsolute, relative } from 'node:path';
import { quoteForShell } from '../shell-word.js';

/** How a process was started. */
export interface Start {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** `undefined` when it is gone. */
  readonly workingDirectory: string | undefined;
}

const COMMAND = 'dps-device';

/**
 * What to type to start this program again from the working directory: `dps-device` where that is found, else `npx
 * dps-device`, the path of the command, or `node dist/dps-device.mjs`.
 */
export function programName({ argv, env, workingDirectory }: Start): string {
  const [runtime = 'node', script] = argv;
  if (script === undefined) return COMMAND;
  const path = quoteForShell(pathFrom(workingDirectory, script));
  if (basename(script) !== COMMAND) return `${basename(runtime)} ${path}`;
  // npx puts its folder into the PATH of this process only.
  if (env.npm_command === 'exec') return `npx ${COMMAND}`;
  if (env.PATH?.split(delimiter).includes(dirname(script))) return COMMAND;
  return path.includes('/') ? path : `./${path}`;
}

/** As `programName`, for the process that this is. */
export function thisProgram(): string {
  return programName({ argv: process.argv, env: process.env, workingDirectory: currentFolder() });
}

function currentFolder(): string | undefined {
  try {
    return process.cwd();
  } catch {
    return undefined;
  }
}

/** The shorter way for files below the folder, the absolute path for others. */
function pathFrom(folder: string | undefined, path: string): string {
  const way = folder === undefined ? '' : relative(folder, path);
  return way === '' || way.startsWith('..') || isAbsolute(way) ? path : way;
}
