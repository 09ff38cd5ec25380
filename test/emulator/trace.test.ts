import { describe, expect, it } from 'vitest';
import { Trace, type TraceNote } from '../../src/emulator/trace.js';

const note = (event: TraceNote['event'], device = 'dev-1', connection = 1): TraceNote => ({
  service: 'dps',
  protocol: 'mqtt',
  event,
  connection,
  device,
});

describe('the trace', () => {
  it('keeps the latest entries and counts them all', () => {
    const trace = new Trace(
      () => 0,
      () => {},
    );
    for (let index = 0; index < 25_000; index += 1) trace.add(note(index % 2 === 0 ? 'register' : 'reply'));
    expect(trace.entries().length).toBeLessThanOrEqual(10_000);
    expect(trace.entries().at(-1)?.sequence).toBe(25_000);
    expect(trace.count()).toBe(25_000);
    expect(trace.count({ event: 'register' })).toBe(12_500);
    expect(trace.count({ device: 'dev-2' })).toBe(0);
    trace.clear();
    expect(trace.count()).toBe(0);
  });

  it('counts the devices of a flood, but only so many of them apart', () => {
    const trace = new Trace(
      () => 0,
      () => {},
    );
    for (let index = 0; index < 60_000; index += 1) trace.add(note('register', `dev-${index}`));
    expect(trace.count()).toBe(60_000);
    expect(trace.count({ event: 'register' })).toBe(60_000);
    expect(trace.count({ device: 'dev-1' })).toBe(1);
    expect(trace.count({ device: 'dev-59999' })).toBe(1);
    // Forgotten, and one too many to be remembered by its name.
    expect(trace.count({ device: 'dev-30000' })).toBe(0);
    for (let index = 0; index < 20_000; index += 1) trace.add(note('register', 'dev-1'));
    expect(trace.count({ device: 'dev-1' })).toBe(20_001);
  });

  it('keeps no more of a name than it needs', () => {
    const trace = new Trace(
      () => 0,
      () => {},
    );
    trace.add({ ...note('connect', 'd'.repeat(60_000)), topic: 't'.repeat(60_000) });
    expect(JSON.stringify(trace.entries()).length).toBeLessThan(1500);
    expect(trace.entries()[0]).not.toHaveProperty('detail', expect.anything());
  });

  it('leaves out what looks like a key, wherever it stands, and nothing else', () => {
    const told: (string | undefined)[] = [];
    const trace = new Trace(
      () => 0,
      (entry) => told.push(entry.detail),
    );
    const run = 'aB3+/'.repeat(9);
    for (const detail of [`${run}=`, `x ${run}== y`, run, `${run}=value`, `${run}==value`, 'short=='])
      trace.add({ ...note('refused'), detail });
    expect(told).toEqual(['[…]', 'x […] y', run, `${run}=value`, '[…]=value', 'short==']);
  });

  it('waits for what has happened, or will', async () => {
    const trace = new Trace(
      () => 5,
      () => {},
    );
    trace.add(note('connect'));
    await expect(trace.waitFor({ event: 'connect' })).resolves.toMatchObject({ sequence: 1, wallMs: 5 });
    const next = trace.waitFor({ event: 'connect' }, 1);
    trace.add(note('connect', 'dev-2'));
    await expect(next).resolves.toMatchObject({ sequence: 2, device: 'dev-2' });
    const never = trace.waitFor({ event: 'close' });
    trace.close();
    await expect(never).rejects.toThrow('"close"');
    await expect(trace.waitFor({ event: 'close' })).rejects.toThrow();
  });
});
