import { PassThrough, Readable, Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { outputTo, readStream } from '../../src/cli/io.js';
import { CancelledError } from '../../src/errors.js';

function failing(code: string): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done(Object.assign(new Error(code), { code })) });
}

describe('outputTo', () => {
  it('writes', async () => {
    const stream = new PassThrough();
    await outputTo(stream).write('grün\n');
    expect(stream.read()?.toString()).toBe('grün\n');
  });

  it('takes a terminal of unknown width for one of 80 columns', () => {
    expect(outputTo(new PassThrough()).columns).toBe(80);
    expect(outputTo(Object.assign(new PassThrough(), { columns: 0 })).columns).toBe(80);
    expect(outputTo(Object.assign(new PassThrough(), { columns: 132 })).columns).toBe(132);
  });

  it('goes on when the reader has gone', async () => {
    const output = outputTo(failing('EPIPE'));
    await output.write('a');
    await output.write('b');
    expect(output.failure).toMatchObject({ code: 'EPIPE' });
    expect(output.backlogBytes).toBe(0);
  });

  it('says what nobody has taken yet', async () => {
    let take = (): void => undefined;
    const slow = new Writable({
      write: (_chunk, _encoding, done) => {
        take = done;
      },
    });
    const output = outputTo(slow);
    const written = output.write('grün');
    expect(output.backlogBytes).toBe(5);
    take();
    await written;
    expect(output.backlogBytes).toBe(0);
  });

  it('remembers any other failure', async () => {
    const output = outputTo(failing('ENOSPC'));
    await output.write('a');
    await output.write('b');
    expect(output.failure).toMatchObject({ code: 'ENOSPC' });
  });
});

describe('readStream', () => {
  const { signal } = new AbortController();

  it('reads to the end', async () => {
    const stream = Readable.from([Buffer.from('a'), Buffer.from('b')]);
    expect(Buffer.from(await readStream(stream, 10, signal)).toString()).toBe('ab');
  });

  it('stops one byte after the limit', async () => {
    const endless = new Readable({
      read() {
        this.push(Buffer.alloc(1000));
      },
    });
    expect(await readStream(endless, 10, signal)).toHaveLength(11);
    expect(endless.destroyed).toBe(true);
  });

  it('ends when it is cancelled, before or while it waits, and lets go of the stream', async () => {
    for (const isEarly of [true, false]) {
      const controller = new AbortController();
      const stream = new PassThrough();
      if (isEarly) controller.abort();
      const read = readStream(stream, 10, controller.signal);
      if (!isEarly) controller.abort();
      await expect(read).rejects.toBeInstanceOf(CancelledError);
      expect(stream.destroyed).toBe(true);
    }
  });

  it('passes on what else goes wrong', async () => {
    const stream = new PassThrough();
    const read = readStream(stream, 10, signal);
    stream.destroy(new Error('EIO'));
    await expect(read).rejects.toThrow('EIO');
  });
});
