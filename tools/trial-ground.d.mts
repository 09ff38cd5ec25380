/** How a program ended. `status` is missing when it could not be started or was killed. */
export interface Ended {
  readonly status: number | undefined;
  readonly signal?: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface PackReport {
  readonly size: number;
  readonly unpackedSize: number;
  readonly files: readonly { readonly path: string; readonly size: number }[];
}

export function makeFolder(): string;
export function removeFolder(folder: string): void;
export function packPackage(folder: string): { readonly path: string; readonly report: PackReport };
export function installPackage(folder: string, tarball: string): void;
export function placeConsumers(folder: string): void;
export function run(
  program: string,
  args: readonly string[],
  options: { readonly cwd: string; readonly env?: Readonly<Record<string, string>> },
): Promise<Ended>;
