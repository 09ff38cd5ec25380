import { createHash } from 'node:crypto';
import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { AbFile } from '../../src/durable/ab-file.js';
import { failureOf } from '../fakes/failure-of.js';
import { SimulatedDisk, systemError } from './simulated-disk.js';

const DIRECTORY = '/var/lib/device';
const A = `${DIRECTORY}/device.a`;
const B = `${DIRECTORY}/device.b`;
const OLD = Buffer.from('the old content, generation 1');
const NEW = Buffer.from('the new content, generation 2');

/** A slot as the format says, made without the code that is tested. */
function slot(content: string, generation: number | bigint, { format = 1, name = 'device' } = {}): Uint8Array {
  const digits = (value: number | bigint, count: number): string => String(value).padStart(count, '0');
  const line = `dps-device-slot ${format} ${digits(generation, 16)} ${digits(content.length, 8)} `;
  const digest = createHash('sha256').update(`${name}\n${line}${content}`).digest('hex');
  return Buffer.from(`${line}${digest}\n${content}`);
}

function newDisk(): SimulatedDisk {
  return new SimulatedDisk('/var', '/var/lib');
}

function newFile(io: SimulatedDisk): AbFile {
  return new AbFile({ directory: DIRECTORY, name: 'device', maxBytes: 100, io });
}

/** The old content in slot a, the new in slot b. */
async function writtenTwice(): Promise<{ disk: SimulatedDisk; file: AbFile }> {
  const disk = newDisk();
  const file = newFile(disk);
  await file.write(OLD);
  await file.write(NEW);
  return { disk, file };
}

describe('AbFile', () => {
  it('lays its slots out as documented', async () => {
    const { disk } = await writtenTwice();
    expect(Buffer.from(disk.bytesOf(A) ?? [])).toEqual(slot(String(OLD), 1));
    expect(Buffer.from(disk.bytesOf(B) ?? [])).toEqual(slot(String(NEW), 2));
  });

  it('writes to the two slots in turn, and numbers the contents', async () => {
    const { disk, file } = await writtenTwice();
    await file.write(Buffer.from('third'));
    expect(Buffer.from(disk.bytesOf(A) ?? [])).toEqual(slot('third', 3));
    expect(await file.read()).toEqual({ kind: 'content', bytes: new Uint8Array(Buffer.from('third')), generation: 3 });
  });

  it('has none where there is no folder, and makes none to look', async () => {
    const disk = newDisk();
    expect(await newFile(disk).read()).toEqual({ kind: 'none' });
    await newFile(disk).remove();
    expect(disk.calls.some((call) => call.startsWith('mkdir'))).toBe(false);
  });

  it('keeps empty content apart from none', async () => {
    const file = newFile(newDisk());
    await file.write(new Uint8Array(0));
    expect(await file.read()).toMatchObject({ kind: 'content', bytes: new Uint8Array(0) });
  });

  it('takes the old content for every bit that flips in the new, tells it, and mends it with the next write', async () => {
    const { disk, file } = await writtenTwice();
    const whole = disk.bytesOf(B) ?? new Uint8Array(0);
    for (let bit = 0; bit < whole.length * 8; bit += 1) {
      const flipped = whole.slice();
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      disk.put(B, { bytes: flipped });
      const found = await file.read();
      expect(found).toMatchObject({
        kind: 'content',
        generation: 1,
        damaged: expect.stringContaining(`${B} is damaged: `),
      });
      expect(found.kind === 'content' && Buffer.from(found.bytes).equals(OLD)).toBe(true);
    }
    await file.write(NEW);
    expect(await file.read()).toEqual({ kind: 'content', bytes: new Uint8Array(NEW), generation: 2 });
  });

  it('takes the old content wherever the new one is cut or has grown', async () => {
    const { disk, file } = await writtenTwice();
    const whole = disk.bytesOf(B) ?? new Uint8Array(0);
    const lengths = Array.from({ length: whole.length }, (_, length) => whole.slice(0, length));
    for (const bytes of [...lengths, Buffer.concat([whole, Buffer.from('x')]), Buffer.alloc(100_000)]) {
      disk.put(B, { bytes });
      expect(await file.read()).toMatchObject({ kind: 'content', generation: 1, damaged: expect.stringContaining(B) });
    }
  });

  it('tells damage of the older slot, too', async () => {
    const { disk, file } = await writtenTwice();
    disk.put(A, { bytes: Buffer.from('rubbish') });
    expect(await file.read()).toMatchObject({
      generation: 2,
      damaged: `${A} is damaged: it is no file of dps-device, or its first line has changed.`,
    });
  });

  it('is damaged as a whole when both slots are, and can be written again', async () => {
    const { disk, file } = await writtenTwice();
    disk.put(A, { bytes: new Uint8Array(0) });
    disk.put(B, { bytes: (disk.bytesOf(B) ?? new Uint8Array(0)).subarray(0, 120) });
    const what = `${A} is damaged: it is empty. ${B} is damaged: it is cut off: 11 of 29 bytes of content are left.`;
    expect(await file.read()).toEqual({ kind: 'damaged', what });
    await file.write(NEW);
    expect(await file.read()).toMatchObject({ kind: 'content', bytes: new Uint8Array(NEW) });
    expect(await file.read()).not.toHaveProperty('damaged');
  });

  it.each([
    [60, 'it is cut off: 60 bytes are left, less than its first line has'],
    [109, 'it is cut off: 0 of 29 bytes of content are left'],
    [130, 'it is cut off: 21 of 29 bytes of content are left'],
  ])('says that a slot was cut off after %i bytes', async (length, what) => {
    const { disk, file } = await writtenTwice();
    disk.put(B, { bytes: (disk.bytesOf(B) ?? OLD).subarray(0, length) });
    expect(await file.read()).toMatchObject({ generation: 1, damaged: `${B} is damaged: ${what}.` });
  });

  it('says of a slot that has grown how long it should be', async () => {
    const { disk, file } = await writtenTwice();
    disk.put(B, { bytes: Buffer.concat([disk.bytesOf(B) ?? OLD, Buffer.from('more')]) });
    const what = 'it should have 29 bytes of content and has 33';
    expect(await file.read()).toMatchObject({ generation: 1, damaged: `${B} is damaged: ${what}.` });
  });

  it.each(['9007199254740991', '9007199254740992', '9999999999999999'])(
    'takes a slot of generation %s, which leaves no room for a next one, for damaged, and keeps what is written',
    async (generation) => {
      const { disk, file } = await writtenTwice();
      disk.put(B, { bytes: slot(String(NEW), BigInt(generation)) });
      const what = `it says generation ${generation}, after which there can be no other`;
      expect(await file.read()).toMatchObject({ generation: 1, damaged: `${B} is damaged: ${what}.` });
      await file.write(Buffer.from('kept'));
      expect(await file.read()).toEqual({
        kind: 'content',
        bytes: new Uint8Array(Buffer.from('kept')),
        generation: 2,
      });
    },
  );

  it('does not write what it could not read back', async () => {
    const { disk, file } = await writtenTwice();
    disk.put(B, { bytes: slot(String(NEW), 9007199254740990n) });
    const before = disk.bytesOf(A);
    await expect(file.write(OLD)).rejects.toMatchObject({
      code: 'ERR_DPS_STORE_UNWRITABLE',
      operation: 'write',
      path: B,
      message: expect.stringContaining('has generation 9007199254740990, the last there can be'),
    });
    expect(await file.read()).toMatchObject({ generation: 9007199254740990, bytes: new Uint8Array(NEW) });
    expect(disk.bytesOf(A)).toEqual(before);
    await file.remove();
    await file.write(OLD);
    expect(await file.read()).toMatchObject({ generation: 1 });
  });

  it('does not mind slots that were swapped', async () => {
    const { disk, file } = await writtenTwice();
    const [a, b] = [disk.bytesOf(A), disk.bytesOf(B)];
    disk.put(A, { bytes: b ?? OLD });
    disk.put(B, { bytes: a ?? OLD });
    expect(await file.read()).toEqual({ kind: 'content', bytes: new Uint8Array(NEW), generation: 2 });
    await file.write(Buffer.from('third'));
    expect(await file.read()).toMatchObject({ generation: 3 });
  });

  it('does not take the slot of a file of another name', async () => {
    const { disk, file } = await writtenTwice();
    disk.put(B, { bytes: slot('stolen', 9, { name: 'other' }) });
    expect(await file.read()).toMatchObject({ generation: 1, damaged: expect.stringContaining('under another name') });
  });

  it('tells two contents of one generation', async () => {
    const { disk, file } = await writtenTwice();
    disk.put(A, { bytes: slot('from a backup', 2) });
    expect(await file.read()).toMatchObject({
      generation: 2,
      damaged: `${B} has other content of the same generation.`,
    });
    disk.put(A, { bytes: slot(String(NEW), 2) });
    expect(await file.read()).not.toHaveProperty('damaged');
  });

  it('leaves what a later release wrote as it is, unless it is told to remove it', async () => {
    const { disk, file } = await writtenTwice();
    disk.put(A, { bytes: slot('later', 3, { format: 2 }) });
    const newer = { code: 'ERR_DPS_STORE_NEWER_FORMAT', path: A, message: expect.stringContaining('has format 2') };
    await expect(file.read()).rejects.toMatchObject(newer);
    await expect(file.write(OLD)).rejects.toMatchObject(newer);
    expect(Buffer.from(disk.bytesOf(A) ?? [])).toEqual(slot('later', 3, { format: 2 }));
    await file.remove();
    expect(await file.read()).toEqual({ kind: 'none' });
  });

  it('uses the other slot when the disk cannot read one', async () => {
    const { disk, file } = await writtenTwice();
    disk.onCall = (call) => {
      if (call === `read ${B}`) throw systemError('EIO');
    };
    expect(await file.read()).toMatchObject({
      generation: 1,
      damaged: `${B} is damaged: the disk cannot read it (EIO).`,
    });
  });

  it('does not let a slot come back to life that could not be read when a new content was written', async () => {
    const { disk, file } = await writtenTwice();
    for (let generation = 3; generation < 9; generation += 1) await file.write(OLD);
    disk.onCall = (call) => {
      if (/^read .*[ab]$/.test(call)) throw systemError('EIO');
    };
    await file.write(NEW);
    disk.onCall = () => undefined;
    expect(await file.read()).toMatchObject({ bytes: new Uint8Array(NEW) });
  });

  it('clears a draft away that a dead process left, even a longer one', async () => {
    const { disk, file } = await writtenTwice();
    disk.put(`${DIRECTORY}/device.new`, { bytes: Buffer.alloc(5000, 7) });
    await file.write(OLD);
    expect(await file.read()).toMatchObject({ bytes: new Uint8Array(OLD), generation: 3 });
    disk.put(`${DIRECTORY}/device.new`, { bytes: Buffer.alloc(5000, 7) });
    await file.remove();
    expect(disk.paths()).toEqual([]);
  });

  it('refuses content that is too long', async () => {
    const { file } = await writtenTwice();
    await expect(file.write(new Uint8Array(101))).rejects.toMatchObject({
      code: 'ERR_DPS_STORE_UNWRITABLE',
      message: expect.stringContaining('101 bytes, and 100 are the most'),
    });
    expect(await file.read()).toMatchObject({ generation: 2 });
  });

  it('does not wait for ever for a disk that takes nothing', async () => {
    const { disk, file } = await writtenTwice();
    disk.maxWriteBytes = 0;
    await expect(file.write(OLD)).rejects.toMatchObject({ code: 'ERR_DPS_STORE_UNWRITABLE' });
    expect(await file.read()).toMatchObject({ generation: 2 });
  });

  it.each([
    ['ENOSPC', 'ERR_DPS_STORE_FULL', 'Free space (look with: df /var/lib/device)'],
    ['EDQUOT', 'ERR_DPS_STORE_FULL', 'quota'],
    ['EROFS', 'ERR_DPS_STORE_READ_ONLY', 'Mount it writable'],
    ['EACCES', 'ERR_DPS_STORE_UNWRITABLE', 'by user 1000 (EACCES). Make that user the owner'],
    ['EIO', 'ERR_DPS_STORE_UNWRITABLE', 'Look at dmesg'],
    ['EMFILE', 'ERR_DPS_STORE_UNWRITABLE', '(EMFILE)'],
  ])('says what %s means, and leaves no draft', async (systemCode, code, words) => {
    const { disk, file } = await writtenTwice();
    disk.onCall = (call) => {
      if (call.startsWith('write')) throw systemError(systemCode);
    };
    await expect(file.write(OLD)).rejects.toMatchObject({
      name: 'StoreError',
      operation: 'write',
      code,
      retryable: code === 'ERR_DPS_STORE_FULL',
      message: expect.stringContaining(words),
    });
    disk.onCall = () => undefined;
    expect(disk.paths()).toEqual([A, B]);
    expect(await file.read()).toMatchObject({ generation: 2 });
  });

  it.each([
    [
      'a folder of another user',
      DIRECTORY,
      { kind: 'folder', userId: 0, mode: 0o700 },
      'OWNER',
      `chown 1000 ${DIRECTORY}`,
    ],
    ['a folder that others may enter', DIRECTORY, { kind: 'folder', mode: 0o755 }, 'MODE', `chmod 700 ${DIRECTORY}`],
    ['a file as the folder', DIRECTORY, { kind: 'file' }, 'UNREADABLE', 'is not a folder'],
    ['a slot of another user', B, { userId: 1001 }, 'OWNER', `chown 1000 ${B}`],
    ['a slot that the group may read', A, { mode: 0o640 }, 'MODE', `chmod 600 ${A}`],
    ['a slot that others may write', A, { mode: 0o602 }, 'MODE', `has mode 0602`],
    ['a device as slot', B, { kind: 'other' }, 'UNREADABLE', 'is not a regular file'],
    ['a folder as slot', A, { kind: 'folder' }, 'UNREADABLE', 'is not a regular file'],
  ] as const)('refuses %s', async (_, path, options, code, words) => {
    const { disk, file } = await writtenTwice();
    disk.put(path, options);
    for (const work of [() => file.read(), () => file.write(OLD), () => file.remove()]) {
      await expect(work()).rejects.toMatchObject({
        name: 'StoreError',
        code: expect.stringMatching(new RegExp(`^ERR_DPS_STORE_(${code}|UNWRITABLE)$`)),
        path,
        message: expect.stringContaining(words),
      });
    }
  });

  it.each([
    ['a folder that may not be written', 0o500, /^open .*device\.new$/],
    ['a folder that may not be entered', 0o600, /^(open|stat) .*device\.a$/],
    ['a folder that may not be read', 0o000, /^open \/var\/lib\/device$/],
  ])('says how its owner gets into %s', async (_, mode, denied) => {
    const { disk, file } = await writtenTwice();
    disk.setMode(DIRECTORY, mode);
    disk.onCall = (call) => {
      if (denied.test(call)) throw systemError('EACCES');
    };
    const error = await failureOf(file.write(OLD));
    expect(error).toMatchObject({ name: 'StoreError', code: expect.stringMatching(/UNREADABLE|UNWRITABLE/) });
    const found = `(EACCES): ${DIRECTORY} belongs to user 1000 and has mode ${mode.toString(8).padStart(4, '0')}`;
    expect(error.message).toContain(
      `by user 1000 ${found}, which keeps that user out, too. Run: chmod 700 ${DIRECTORY}`,
    );
  });

  it('names the folder above that lets nobody else in', async () => {
    const { disk, file } = await writtenTwice();
    disk.put('/var/lib', { kind: 'folder', userId: 0, mode: 0o750 });
    disk.onCall = (call) => {
      if (call.endsWith('/var/lib/device')) throw systemError('EACCES');
    };
    const { message } = await failureOf(file.read());
    expect(message).toContain(
      '/var/lib belongs to user 0 and has mode 0750. Have its owner make a folder for user 1000',
    );
    expect(message).not.toContain('chown');
  });

  it('asks for neither owner nor mode where the system knows none', async () => {
    const disk = newDisk();
    disk.userId = undefined;
    const file = newFile(disk);
    await file.write(OLD);
    disk.setMode(A, 0o666);
    disk.setMode(DIRECTORY, 0o777);
    expect(await file.read()).toMatchObject({ generation: 1 });
  });

  it('names the folder above when that is missing', async () => {
    const file = new AbFile({ directory: '/var/lib/x/device', name: 'device', maxBytes: 100, io: newDisk() });
    await expect(file.write(OLD)).rejects.toMatchObject({
      code: 'ERR_DPS_STORE_UNWRITABLE',
      message: expect.stringContaining('mkdir -p /var/lib/x'),
    });
  });

  it('stops before its rename when the signal aborts, and is whole after it', async () => {
    for (const [stopAt, generation] of [
      ['sync /var/lib/device/device.new', 2],
      ['rename /var/lib/device/device.new', 3],
    ] as const) {
      const { disk, file } = await writtenTwice();
      const controller = new AbortController();
      disk.onCall = (call) => {
        if (call === stopAt) controller.abort(new Error('enough'));
      };
      await expect(file.write(OLD, controller.signal)).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
      await file.settled();
      expect(disk.paths()).toEqual([A, B]);
      expect(await file.read()).toMatchObject({ generation });
      expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
    }
  });

  it('rejects at once when the signal aborts while the disk hangs', async () => {
    const { disk, file } = await writtenTwice();
    const controller = new AbortController();
    disk.onCall = () => new Promise(() => controller.abort());
    await expect(file.read(controller.signal)).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
  });
});
