import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { getEventListeners } from 'node:events';
import { closeSync, constants, openSync, readdirSync, readlinkSync } from 'node:fs';
import { chmod, type FileHandle, mkdir, mkdtemp, open, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { MAX_SECRET_FILE_BYTES, readPublicFile, readSecretFile } from '../../hsm/secret-file.js';
import { HsmError } from '../../src/errors.js';

let folder = '';
let counter = 0;
const what = 'device key';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dps-device-secret-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function makeFile(content: string | Uint8Array, mode = 0o600): Promise<string> {
  const path = join(folder, `file-${counter++}`);
  await writeFile(path, content);
  await chmod(path, mode);
  return path;
}

function makePipe(mode: string): string {
  const path = join(folder, `pipe-${counter++}`);
  execFileSync('mkfifo', ['-m', mode, path]);
  return path;
}

async function failureOf(work: Promise<unknown>): Promise<HsmError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof HsmError) return error;
  throw new Error(`Expected an HsmError, not ${String(error)}.`);
}

function openPaths(): string[] {
  return readdirSync('/proc/self/fd').flatMap((name) => {
    try {
      return [readlinkSync(`/proc/self/fd/${name}`)];
    } catch {
      return [];
    }
  });
}

describe('modes', () => {
  it.each([0o600, 0o400, 0o700, 0o500])('reads a file of mode %o', async (mode) => {
    const path = await makeFile('secret\n', mode);
    expect(Buffer.from(await readSecretFile(path, { what })).toString()).toBe('secret\n');
  });

  it.each([
    [0o640, '0640'],
    [0o604, '0604'],
    [0o620, '0620'],
    [0o602, '0602'],
    [0o610, '0610'],
    [0o601, '0601'],
    [0o644, '0644'],
    [0o2660, '2660'],
  ])('refuses a file of mode %o and says how to mend it', async (mode, shown) => {
    const path = await makeFile('secret', mode);
    const error = await failureOf(readSecretFile(path, { what }));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_FILE_MODE', operation: 'load device key', retryable: false });
    expect(error.message).toBe(
      `The device key file ${path} has mode ${shown}: others than its owner may read or write it. Run: chmod 600 ${path}`,
    );
    expect(openPaths()).not.toContain(path);
  });

  it('names a command that can be pasted, whatever the path', async () => {
    const path = join(folder, "it's a key");
    await writeFile(path, 'secret', { mode: 0o644 });
    await chmod(path, 0o644);
    const error = await failureOf(readSecretFile(path, { what }));
    const command = error.message.slice(error.message.indexOf('chmod'));
    execFileSync('sh', ['-c', command]);
    expect(Buffer.from(await readSecretFile(path, { what })).toString()).toBe('secret');
  });

  it('looks at the file behind a link, and at a descriptor it was handed', async () => {
    const target = await makeFile('secret', 0o644);
    const link = join(folder, 'link');
    await symlink(target, link);
    expect(await failureOf(readSecretFile(link, { what }))).toMatchObject({ code: 'ERR_DPS_HSM_FILE_MODE' });
    const handle = await open(target);
    const error = await failureOf(readSecretFile(`/dev/fd/${handle.fd}`, { what }));
    expect(error.message).toContain('Run: chmod 600 the file behind it');
    await chmod(target, 0o600);
    expect(Buffer.from(await readSecretFile(link, { what })).toString()).toBe('secret');
    expect(Buffer.from(await readSecretFile(`/dev/fd/${handle.fd}`, { what })).toString()).toBe('secret');
    await handle.close();
  });

  it('shows a file that it refuses to who may know it for another, and to nobody what comes out of a pipe', async () => {
    const seen: string[] = [];
    const mistakeIn = (content: Uint8Array): HsmError | undefined => {
      seen.push(Buffer.from(content).toString());
      return seen.at(-1) === 'other'
        ? new HsmError({ code: 'ERR_DPS_HSM_KEY_INVALID', operation: 'o', message: 'm' })
        : undefined;
    };
    const read = (path: string): Promise<HsmError> => failureOf(readSecretFile(path, { what, mistakeIn }));
    expect(await read(await makeFile('secret', 0o644))).toMatchObject({ code: 'ERR_DPS_HSM_FILE_MODE' });
    expect(await read(await makeFile('other', 0o644))).toMatchObject({ code: 'ERR_DPS_HSM_KEY_INVALID' });
    expect(await read(makePipe('644'))).toMatchObject({ code: 'ERR_DPS_HSM_FILE_MODE' });
    await readSecretFile(await makeFile('other', 0o600), { what, mistakeIn });
    expect(seen).toEqual(['secret', 'other']);
  });

  it('does not ask that of a public file', async () => {
    expect(Buffer.from(await readPublicFile(await makeFile('public', 0o644), { what })).toString()).toBe('public');
  });
});

describe('files that cannot be read', () => {
  const cases: readonly (readonly [string, () => string | Promise<string>, RegExp])[] = [
    ['missing', () => join(folder, 'absent'), /does not exist/],
    ['below a file', async () => join(await makeFile('x'), 'deeper'), /does not exist/],
    ['with a NUL in its path', () => 'a\0b', /cannot be read/],
    ['a device', () => '/dev/null', /is a terminal or another device, not a file/],
    // Even root may not read this one.
    ['forbidden', () => '/proc/sys/vm/compact_memory', /may not be read by user \d+/],
    ['empty', () => makeFile(''), /is empty/],
    ['too large', () => makeFile(Buffer.alloc(MAX_SECRET_FILE_BYTES + 1)), /has more than 65536 bytes/],
    [
      'a directory',
      async () => {
        await mkdir(join(folder, 'directory'), { mode: 0o700 });
        return join(folder, 'directory');
      },
      /is a directory, not a file/,
    ],
    [
      'a link in a circle',
      async () => {
        await symlink('circle', join(folder, 'circle'));
        return join(folder, 'circle');
      },
      /symbolic link that leads nowhere/,
    ],
  ];

  it.each(cases)('refuses one that is %s', async (_, path, message) => {
    const error = await failureOf(readSecretFile(await path(), { what }));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_FILE_UNREADABLE', operation: 'load device key' });
    expect(error.message).toMatch(/^The device key file /);
    expect(error.message).toMatch(message);
  });

  it.each([
    ['a key', () => randomBytes(48).toString('base64url')],
    ['a passphrase', () => 'correct horse battery staple'],
    ['a connection string', () => 'HostName=h;DeviceId=d;SharedAccessKey=x'],
    ['a document', () => '{"key":"x"}'],
  ])('does not repeat %s that was given as the path', async (_, make) => {
    const path = make();
    const error = await failureOf(readSecretFile(path, { what }));
    expect(error.message).toMatch(/^The device key file given \(not shown: it may be a secret\) does not exist\./);
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain(path);
  });

  it('repeats paths with spaces where no secret is wanted, or where there is a file', async () => {
    const path = join(folder, 'no such file');
    expect((await failureOf(readPublicFile(path, { what }))).message).toContain(path);
    await writeFile(path, 'x');
    await chmod(path, 0o644);
    expect((await failureOf(readSecretFile(path, { what }))).message).toContain(path);
  });

  it('reads one of exactly the size allowed', async () => {
    const path = await makeFile(Buffer.alloc(MAX_SECRET_FILE_BYTES, 1));
    expect(await readSecretFile(path, { what })).toHaveLength(MAX_SECRET_FILE_BYTES);
  });

  it('reads no more of a huge one than it takes to know', async () => {
    const path = await makeFile('x');
    await truncate(path, 2 ** 40);
    expect(await failureOf(readSecretFile(path, { what }))).toMatchObject({ code: 'ERR_DPS_HSM_FILE_UNREADABLE' });
  });
});

describe('pipes', () => {
  async function writeThrough(path: string, content: string | Uint8Array): Promise<void> {
    const handle: FileHandle = await open(path, 'w');
    try {
      await handle.writeFile(content);
    } finally {
      await handle.close();
    }
  }

  it.each(['before', 'after'])('reads what is written, the writer coming %s the reader', async (order) => {
    const path = makePipe('600');
    const early = order === 'before' ? writeThrough(path, 'secret\n') : undefined;
    const reading = readSecretFile(path, { what, signal: new AbortController().signal });
    await (early ?? writeThrough(path, 'secret\n'));
    expect(Buffer.from(await reading).toString()).toBe('secret\n');
    expect(openPaths()).not.toContain(path);
  });

  it('refuses one that others may write, and one that goes on and on', async () => {
    expect(await failureOf(readSecretFile(makePipe('622'), { what }))).toMatchObject({ code: 'ERR_DPS_HSM_FILE_MODE' });
    const path = makePipe('600');
    const reading = failureOf(readSecretFile(path, { what }));
    const writer = await open(path, 'w');
    const writeForEver = async (): Promise<void> => {
      for (;;) await writer.write(Buffer.alloc(4096));
    };
    await expect(writeForEver()).rejects.toMatchObject({ code: 'EPIPE' });
    await writer.close();
    expect((await reading).message).toContain('has more than 65536 bytes');
  });

  it.each([
    ['before it is open', () => undefined],
    ['as soon as it is open', (path: string) => expect(openPaths()).toContain(path)],
    // The one that waits for the signal from the beginning, and the one that reads the pipe.
    [
      'while it is read',
      (_: string, signal: AbortSignal) => expect(getEventListeners(signal, 'abort')).toHaveLength(2),
    ],
  ])('stops waiting when the signal aborts %s, and leaves nothing open', async (_, condition) => {
    const path = makePipe('600');
    const controller = new AbortController();
    const reading = readSecretFile(path, { what, signal: controller.signal });
    await vi.waitFor(() => condition(path, controller.signal), { timeout: 60_000 });
    controller.abort(new Error('enough'));
    await expect(reading).rejects.toMatchObject({
      code: 'ERR_DPS_CANCELLED',
      state: 'reading the device key file',
      cause: { message: 'enough' },
    });
    // An opening that was under way when the signal came ends a moment later, and is undone.
    const isLeft = (): void => {
      expect(openPaths()).not.toContain(path);
      expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0);
      // Without a reader a writer that does not wait is refused.
      expect(() => closeSync(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK))).toThrow('ENXIO');
    };
    await vi.waitFor(isLeft, { timeout: 60_000 });
  });

  it('leaves no listener on the signal', async () => {
    const { signal } = new AbortController();
    const path = makePipe('600');
    await Promise.all([writeThrough(path, 'secret'), readSecretFile(path, { what, signal })]);
    await readSecretFile(await makeFile('secret'), { what, signal });
    await failureOf(readSecretFile(join(folder, 'absent'), { what, signal }));
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
  });
});

describe('cancellation', () => {
  it('opens nothing for a signal that has aborted', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(readSecretFile(join(folder, 'absent'), { what, signal })).rejects.toMatchObject({
      code: 'ERR_DPS_CANCELLED',
    });
  });

  it('gives up a file at once, and closes it later', async () => {
    const path = await makeFile('secret');
    const controller = new AbortController();
    const reading = readSecretFile(path, { what, signal: controller.signal });
    controller.abort();
    await expect(reading).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    await vi.waitFor(() => expect(openPaths()).not.toContain(path), { timeout: 60_000 });
  });
});
