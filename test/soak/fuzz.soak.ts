import { afterAll, describe, expect, it } from 'vitest';
import { AMQP_TARGETS } from '../fuzz/amqp-targets.js';
import { carrierTargets, proxyTargets } from '../fuzz/carrier-targets.js';
import { CLI_TARGETS } from '../fuzz/cli-targets.js';
import { doorTargets, startDoor } from '../fuzz/door-targets.js';
import { fileTargets, makeFuzzedFiles } from '../fuzz/file-targets.js';
import { type FuzzTally, type FuzzTarget, formatTally, runFuzz } from '../fuzz/fuzz-run.js';
import { GarblingPeer } from '../fuzz/garbling-peer.js';
import { HangWatch } from '../fuzz/hang-watch.js';
import { hubTarget } from '../fuzz/hub-targets.js';
import { loopTarget } from '../fuzz/loop-targets.js';
import { type AnswerCounter, journeyTarget, registrationTarget } from '../fuzz/machine-targets.js';
import { PROXY_TARGETS } from '../fuzz/proxy-targets.js';
import { socketTargets } from '../fuzz/socket-targets.js';
import { TEXT_TARGETS } from '../fuzz/text-targets.js';
import { WIRE_TARGETS } from '../fuzz/wire-targets.js';

/** Answers of a service; everything else is in proportion. */
const ANSWERS = Number(process.env.SOAK_ANSWERS ?? 1_000_000);
/** Of the first case; the others count up from there. */
const SEED = Number(process.env.SOAK_SEED ?? Date.now() % 0x4000_0000);
const ROUNDS = 20;
const MAX_GROWTH_BYTES = 4_000_000;

/** A share of the whole: so many answers, in cases that give one answer each, or as many as they count themselves. */
interface Share {
  readonly target: FuzzTarget;
  readonly answers: number;
  readonly counter?: AnswerCounter;
  readonly tally: FuzzTally;
  cases: number;
}

const files = await makeFuzzedFiles();
const peer = await GarblingPeer.start();
const proxy = await GarblingPeer.start('tcp');
const emulator = await startDoor();
const watch = new HangWatch();
afterAll(async () => {
  files.remove();
  await Promise.all([peer.close(), proxy.close(), emulator.close()]);
  await watch.stop();
});

describe(`${ANSWERS} fuzzed answers`, () => {
  it('come to an end each, without an untyped throw, a hang or a leak', async () => {
    const [services, others] = [serviceShares(), otherShares()];
    console.log(`seed ${SEED}; SOAK_SEED=${SEED} repeats the run`);
    const startedMs = performance.now();
    const heapBytes: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const share of [...services, ...others]) await runRound(share);
      heapBytes.push(heapAfterCollection());
      if (round % 2 === 1) console.log(`${((round + 1) / ROUNDS) * 100} %: heap ${inMegabytes(heapBytes.at(-1) ?? 0)}`);
    }
    const seconds = (performance.now() - startedMs) / 1000;
    for (const share of [...services, ...others]) report(share);
    const answers = services.reduce((sum, share) => sum + answersOf(share), 0);
    const growthBytes = (heapBytes.at(-1) ?? 0) - (heapBytes[ROUNDS / 10 - 1] ?? 0);
    console.log(
      `${answers} answers, ${others.reduce((sum, { cases }) => sum + cases, 0)} other inputs, ${seconds.toFixed(0)} s, seed ${SEED}; heap from 10 % to 100 %: ${inMegabytes(growthBytes)}`,
    );
    expect(answers).toBeGreaterThanOrEqual(ANSWERS);
    expect(growthBytes).toBeLessThan(MAX_GROWTH_BYTES);
  });
});

/** What services answer, to the parsers, the machines, the loop, the hub session and the transports. */
function serviceShares(): Share[] {
  const wire = [...WIRE_TARGETS, ...AMQP_TARGETS, ...PROXY_TARGETS];
  const parsers = wire.map((target) => share(target, 0.44 / wire.length));
  const counted = [
    [registrationTarget, 0.2],
    [journeyTarget, 0.2],
    [loopTarget, 0.05],
    [hubTarget, 0.09],
  ] as const;
  const machines = counted.map(([make, part]) => {
    const counter: AnswerCounter = { answers: 0 };
    return share(make(counter), part, counter);
  });
  const talkers = [...socketTargets(peer), ...carrierTargets(peer), ...proxyTargets(proxy)];
  const sockets = talkers.map((target) => share(target, 0.0025));
  return [...parsers, ...machines, ...sockets];
}

/** What people and applications write, and what comes to the emulator. */
function otherShares(): Share[] {
  const targets = [...TEXT_TARGETS, ...CLI_TARGETS, ...fileTargets(files)];
  const doors = doorTargets(emulator);
  return [...targets.map((target) => share(target, 0.02)), ...doors.map((target) => share(target, 0.0025))];
}

function share(target: FuzzTarget, part: number, counter?: AnswerCounter): Share {
  const answers = Math.ceil((ANSWERS * part) / ROUNDS) * ROUNDS;
  return { target, answers, ...(counter === undefined ? {} : { counter }), tally: new Map(), cases: 0 };
}

async function runRound(share: Share): Promise<void> {
  const wanted = share.answers / ROUNDS;
  const before = answersOf(share);
  while (answersOf(share) < before + wanted) {
    const cases = share.counter === undefined ? wanted : 50;
    const tally = await runFuzz(share.target, { firstSeed: SEED + share.cases, cases, watch });
    share.cases += cases;
    for (const [label, count] of tally) share.tally.set(label, (share.tally.get(label) ?? 0) + count);
  }
}

function answersOf({ counter, cases }: Share): number {
  return counter?.answers ?? cases;
}

function report(share: Share): void {
  const { target, cases, counter, tally } = share;
  const count = counter === undefined ? `${cases}` : `${counter.answers} in ${cases} runs`;
  console.log(`${target.name}: ${count} (${formatTally(tally)})`);
}

function heapAfterCollection(): number {
  if (globalThis.gc === undefined) throw new Error('The soak needs --expose-gc, as vitest.soak.config.ts gives it.');
  globalThis.gc();
  globalThis.gc();
  return process.memoryUsage().heapUsed;
}

function inMegabytes(bytes: number): string {
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}
