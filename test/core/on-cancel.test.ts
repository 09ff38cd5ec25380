import { getEventListeners } from 'node:events';
import { describe, expect, it, onTestFinished } from 'vitest';
import { onCancel } from '../../src/core/on-cancel.js';

describe('onCancel', () => {
  it('calls everybody once, in order', () => {
    const caller = new AbortController();
    const calls: string[] = [];
    const same = (): void => void calls.push('same');
    onCancel(caller.signal, () => calls.push('first'));
    onCancel(caller.signal, same);
    onCancel(caller.signal, same);
    caller.abort();
    caller.signal.dispatchEvent(new Event('abort'));
    expect(calls).toEqual(['first', 'same', 'same']);
  });

  it('has one listener on the signal, while there is anybody', () => {
    const { signal } = new AbortController();
    const leave = Array.from({ length: 50 }, () => onCancel(signal, () => {}));
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
    for (const each of leave.slice(1)) each();
    leave[1]?.();
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
    leave[0]?.();
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
    const again = onCancel(signal, () => {});
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
    again();
    leave[0]?.();
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
  });

  it('does not call whom an earlier one took back, nor who came too late', () => {
    const caller = new AbortController();
    const calls: string[] = [];
    onCancel(caller.signal, () => {
      calls.push('first');
      leave();
      onCancel(caller.signal, () => calls.push('late'));
    });
    const leave = onCancel(caller.signal, () => calls.push('second'));
    caller.abort();
    expect(calls).toEqual(['first']);
  });

  it('makes Node warn of no leak', async () => {
    const warnings: Error[] = [];
    const note = (warning: Error): number => warnings.push(warning);
    process.on('warning', note);
    onTestFinished(() => void process.off('warning', note));
    const { signal } = new AbortController();
    for (let count = 0; count < 50; count += 1) onCancel(signal, () => {});
    // A warning is told in a tick of its own.
    await new Promise(setImmediate);
    expect(warnings).toEqual([]);
  });
});
