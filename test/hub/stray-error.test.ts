import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { MAX_WARNINGS_PER_SESSION } from '../../src/hub/stray-error.js';
import { HubBench } from '../fakes/hub-bench.js';
import { settle } from '../fakes/hub-broker.js';

/** What the process warns of. */
function warnings(): string[] {
  const texts: string[] = [];
  const emitWarning = vi.spyOn(process, 'emitWarning');
  emitWarning.mockImplementation((text, options) => {
    texts.push(`${(options as { type?: string }).type}: ${text}`);
  });
  onTestFinished(() => emitWarning.mockRestore());
  return texts;
}

/** A bench whose application takes no errors; each bad push is one. */
function benchWithoutSink(options: ConstructorParameters<typeof HubBench>[0] = {}) {
  const bench = new HubBench({ ...options, onStrayError: options.onStrayError ?? (undefined as never) });
  const pushBad = (): void => bench.broker.connection.deliver('$iothub/twin/PATCH/properties/desired/?$version=x', '');
  return { bench, pushBad };
}

describe('errors that no call waits for', () => {
  it('are ten warnings a session at most, and the number of the others at its end', async () => {
    const texts = warnings();
    const { bench, pushBad } = benchWithoutSink();
    const [session, other] = [await bench.open(), await bench.open()];
    for (let count = 0; count < 5000; count += 1) pushBad();
    await settle();
    expect(texts).toHaveLength(MAX_WARNINGS_PER_SESSION);
    expect(texts[0]).toMatch(/^DpsDeviceWarning: Error in a hub session \(delivery\): The hub used a malformed topic/);
    await other.close();
    await settle();
    expect(texts.slice(MAX_WARNINGS_PER_SESSION)).toEqual([
      'DpsDeviceWarning: 4990 more errors in this hub session were left out.',
    ]);
    await session.close();
    await settle();
    expect(texts).toHaveLength(MAX_WARNINGS_PER_SESSION + 1);
  });

  it('all go to the sink of the application', async () => {
    const texts = warnings();
    const taken: unknown[] = [];
    const { bench, pushBad } = benchWithoutSink({ onStrayError: (error) => taken.push(error) });
    const session = await bench.open();
    for (let count = 0; count < 20; count += 1) pushBad();
    await session.close();
    await settle();
    expect([taken.length, texts]).toEqual([20, []]);
  });

  it('are warnings when that sink fails, whatever it throws', async () => {
    const texts = warnings();
    const onStrayError = (): never => {
      throw Object.create(null);
    };
    const { bench, pushBad } = benchWithoutSink({ onStrayError });
    const session = await bench.open();
    pushBad();
    await session.close();
    await settle();
    expect(texts).toEqual(['DpsDeviceWarning: Error in a hub session (delivery): it threw an object']);
  });
});
