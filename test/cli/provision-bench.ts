import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CliIo } from '../../src/cli/io.js';
import { main } from '../../src/cli/main.js';
import { provisionCommand } from '../../src/cli/provision.js';
import type { ProvisionOptions } from '../../src/provision-options.js';
import { type FakeIo, type FakeIoOptions, fakeIo } from './fake-io.js';
import { type FakeProvision, fakeProvision } from './fake-provision.js';
import { temporaryFolder } from './temporary-folder.js';

/** What is enough to provision a device by a key. */
export const KEY_FLAGS = ['--id-scope', '0ne1', '--registration-id', 'dev-1', '--symmetric-key-file', 'dev.key'];

export interface Run {
  readonly status: number;
  readonly io: FakeIo;
  readonly options: ProvisionOptions | undefined;
}

/** Runs the command to its end; `options` are those that `provision()` was called with. */
export async function run(
  args: string[],
  ioOptions: FakeIoOptions = {},
  fake: FakeProvision = fakeProvision(),
): Promise<Run> {
  const io = fakeIo(ioOptions);
  return { status: await start(args, io, fake), io, options: fake.calls[0] };
}

/** Runs the command with a `provision()` that is played. */
export function start(args: string[], io: CliIo, fake: FakeProvision): Promise<number> {
  const commands = { provision: { summary: '', load: async () => provisionCommand(async () => fake.provision) } };
  return main(['provision', ...args], io, commands);
}

/** A private file in a folder of its own. */
export function fileWith(content: string, name = 'file'): string {
  const path = join(temporaryFolder(), name);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}
