import { describe, expect, it } from 'vitest';
import type { Fault } from '../../src/emulator/fault.js';
import { FaultSwitches } from '../../src/emulator/faults.js';

const silent: Fault = { at: 'dps.register', action: { kind: 'silent' } };

describe('fault switches', () => {
  it('apply in the order of adding, each so many times', () => {
    const faults = new FaultSwitches();
    faults.add({ at: 'dps.register', action: { kind: 'respond', status: 429 }, times: 2 });
    faults.add({ at: 'dps.register', action: { kind: 'cut' }, times: 1 });
    const kinds = [1, 2, 3, 4].map(() => faults.take('dps.register', {})?.kinds);
    expect(kinds).toEqual(['respond', 'respond', 'cut', undefined]);
    expect(faults.pending()).toEqual([]);
  });

  it('may let some steps pass first', () => {
    const faults = new FaultSwitches();
    faults.add({ ...silent, skip: 2, times: 1 });
    expect([1, 2, 3, 4].map(() => faults.take('dps.register', {})?.kinds)).toEqual([
      undefined,
      undefined,
      'silent',
      undefined,
    ]);
  });

  it('stay until they are taken back', () => {
    const faults = new FaultSwitches();
    const remove = faults.add(silent);
    for (let step = 0; step < 5; step += 1) expect(faults.take('dps.register', {})).toBeDefined();
    remove();
    expect(faults.take('dps.register', {})).toBeUndefined();
    faults.add(silent);
    faults.clear();
    expect(faults.take('dps.register', {})).toBeUndefined();
  });

  it('are meant for a step, and for whom they say', () => {
    const faults = new FaultSwitches();
    faults.add({ ...silent, when: { device: 'Dev-1', protocol: 'mqtt', idScope: 'a' } });
    expect(faults.take('dps.status', { device: 'dev-1', protocol: 'mqtt', idScope: 'a' })).toBeUndefined();
    expect(faults.take('dps.register', { device: 'dev-2', protocol: 'mqtt', idScope: 'a' })).toBeUndefined();
    expect(faults.take('dps.register', { device: 'dev-1', protocol: 'https', idScope: 'a' })).toBeUndefined();
    expect(faults.take('dps.register', { device: 'dev-1', protocol: 'mqtt', idScope: 'b' })).toBeUndefined();
    expect(faults.take('dps.register', { device: 'dev-1', protocol: 'mqtt', idScope: 'a' })).toBeDefined();
  });

  it('may have several actions at once', () => {
    const faults = new FaultSwitches();
    faults.add({
      at: 'dps.register',
      action: [
        { kind: 'delay', polls: 2 },
        { kind: 'retryAfter', value: '0' },
      ],
    });
    const taken = faults.take('dps.register', {});
    expect(taken?.find('delay')).toEqual({ kind: 'delay', polls: 2 });
    expect(taken?.find('retryAfter')).toEqual({ kind: 'retryAfter', value: '0' });
    expect(taken?.find('cut')).toBeUndefined();
  });

  it.each<[string, unknown, string]>([
    [
      'an action that the step does not know',
      { at: 'hub.twinGet', action: { kind: 'delay', polls: 1 } },
      'fault.action.kind',
    ],
    ['an action without its number', { at: 'dps.register', action: { kind: 'delay' } }, 'fault.action.polls'],
    ['a typing error', { at: 'dps.register', action: { kind: 'respond', statuss: 1 } }, 'fault.action.statuss'],
    [
      'a header that HTTP does not allow',
      { at: 'dps.register', action: { kind: 'respond', headers: { 'a b': 'c' } } },
      'fault.action.headers',
    ],
    [
      'a line end in a header',
      { at: 'dps.register', action: { kind: 'retryAfter', value: '1\r\nX: y' } },
      'fault.action.value',
    ],
    ['bytes that are no Base64', { at: 'dps.register', action: { kind: 'raw', base64: '!' } }, 'fault.action.base64'],
    [
      'the second of two actions',
      { at: 'dps.register', action: [{ kind: 'silent' }, { kind: 'x' }] },
      'fault.action[1].kind',
    ],
  ])('refuse %s', (_what, fault, option) => {
    expect(() => new FaultSwitches().add(fault as Fault)).toThrow(expect.objectContaining({ option }));
  });
});
