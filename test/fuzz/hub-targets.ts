import type { HubSession } from '../../src/core/hub.js';
import type { DesiredChange, JsonObject } from '../../src/core/twin.js';
import { TransportError } from '../../src/errors.js';
import { HubBench } from '../fakes/hub-bench.js';
import { type FakeHubConnection, settle } from '../fakes/hub-broker.js';
import type { FuzzRandom } from './fuzz-random.js';
import type { FuzzTarget } from './fuzz-run.js';
import { jsonBytes } from './json-mutations.js';
import type { AnswerCounter } from './machine-targets.js';
import { mutateText } from './mutations.js';
import { ensure, settledOrCode } from './properties.js';
import { randomError } from './random-errors.js';
import { DESIRED_PATCH, REFUSED, TWIN } from './service-corpus.js';

/** A hub session, from the first twin to its close, at a hub that sends anything at any time. */
export function hubTarget(counter: AnswerCounter = { answers: 0 }): FuzzTarget {
  return {
    name: 'hub session',
    run: (random) => new HubFuzz(random, counter).run(),
  };
}

const MAX_ROUNDS = 500;
const ROUNDS_WITH_SESSION = 8;

const DELIVERIES: readonly (readonly [topic: string, body: JsonObject])[] = [
  ['$iothub/twin/res/200/?$rid=r1', TWIN],
  ['$iothub/twin/res/200/?$rid=foreign', TWIN],
  ['$iothub/twin/res/204/?$rid=r2&$version=10', {}],
  ['$iothub/twin/PATCH/properties/desired/?$version=5', DESIRED_PATCH],
  ['$iothub/twin/PATCH/properties/desired/?$version=6', { fan: 1, $version: 6 }],
  ['$iothub/twin/PATCH/properties/desired/?$version=90', { fan: 2, $version: 90 }],
  ['$iothub/methods/POST/reboot/?$rid=7', { force: true }],
  ['$iothub/methods/POST/fail/?$rid=8', {}],
  ['$iothub/methods/POST/unknown/?$rid=9', {}],
  ['devices/dev-1/messages/devicebound/%24.mid=m1&color=red&bare', { text: 'hello' }],
];

class HubFuzz {
  readonly #random: FuzzRandom;
  readonly #counter: AnswerCounter;
  readonly #bench: HubBench = new HubBench();
  readonly #changes: DesiredChange[] = [];
  /** A hub that is mostly right lets the session come about. */
  readonly #isHelpful: boolean;
  #isOver = false;

  constructor(random: FuzzRandom, counter: AnswerCounter) {
    this.#random = random;
    this.#counter = counter;
    this.#isHelpful = random.chance(0.7);
    const { broker } = this.#bench;
    broker.onGet = (connection, requestId) => this.#answer(connection, requestId, 200, TWIN);
    broker.onPatch = (connection, requestId) => this.#answer(connection, requestId, 204, {});
    if (random.chance(0.05)) broker.refusals.push(randomError(random));
  }

  async run(): Promise<string> {
    const opened = settledOrCode(this.#bench.open()).finally(() => {
      this.#isOver = true;
    });
    await this.#letHappen(MAX_ROUNDS, () => this.#isOver);
    ensure(this.#isOver, `the session opens or fails within ${MAX_ROUNDS} rounds`);
    const outcome = await opened;
    if ('value' in outcome) await this.#use(outcome.value);
    this.#requireNothingLeft();
    if ('code' in outcome) return outcome.code;
    return this.#changes.length > 0 ? 'session with changes' : 'session';
  }

  async #use(session: HubSession): Promise<void> {
    let isClosed = false;
    session.onDesiredChange((change) => {
      ensure(!isClosed, 'nothing is delivered after the close');
      this.#changes.push(change);
    });
    session.onMethod('reboot', (payload) => ({ status: 200, payload }));
    session.onMethod('fail', () => Promise.reject(new RangeError('the handler fails')));
    session.onMessage(() => {});
    let left = 3;
    const count = (): void => {
      left -= 1;
    };
    const works = [
      settledOrCode(session.report({ a: 1 })).finally(count),
      settledOrCode(session.sendTelemetry({ body: { t: 1 } })).finally(count),
      settledOrCode(session.report({ b: 2 })).finally(count),
    ];
    await this.#letHappen(ROUNDS_WITH_SESSION, () => false);
    if (this.#random.chance(0.7)) await this.#letHappen(MAX_ROUNDS, () => left === 0);
    isClosed = true;
    await session.close();
    await Promise.all(works);
    await session.closed;
    // A hub that gives one version two contents is believed, see docs/decisions.md, 12.
    for (const [index, { version, desired }] of this.#changes.entries()) {
      const before = this.#changes[index - 1]?.desired;
      ensure(JSON.stringify(desired) !== JSON.stringify(before), `change ${version} is delivered once`);
    }
  }

  #requireNothingLeft(): void {
    const { clock, broker } = this.#bench;
    ensure(clock.pending === 0, `${clock.pending} timers are left`);
    ensure(
      broker.connections.every((connection) => connection.isOver),
      'every connection is closed',
    );
    ensure(
      broker.connections.every(({ listeners }) => listeners === 0),
      'no listener is left',
    );
  }

  /** Rounds of whatever a hub does, then of time. */
  async #letHappen(rounds: number, isDone: () => boolean): Promise<void> {
    for (let round = 0; round < rounds && !isDone(); round += 1) {
      await settle();
      const connection = this.#bench.broker.connections.at(-1);
      if (connection !== undefined && !connection.isOver) this.#disturb(connection);
      await settle();
      if (!isDone() && this.#random.chance(0.5)) this.#bench.clock.advanceToNext();
    }
  }

  #disturb(connection: FakeHubConnection): void {
    const random = this.#random;
    for (let deliveries = random.pick([0, 0, 1, 3]); deliveries > 0; deliveries -= 1) {
      const [topic, body] = random.pick(DELIVERIES);
      this.#deliver(connection, random.chance(0.3) ? mutateText(random, topic) : topic, jsonBytes(random, body));
    }
    if (random.chance(this.#isHelpful ? 0.005 : 0.05)) connection.lose(lost());
  }

  /** To the right request, to another, twice, as an error, later, or never. */
  #answer(connection: FakeHubConnection, requestId: string, status: number, valid: JsonObject): void {
    const random = this.#random;
    if (random.chance(this.#isHelpful ? 0.05 : 0.3)) return;
    const isRight = random.chance(this.#isHelpful ? 0.8 : 0.2);
    const answered = isRight ? status : random.pick([200, 204, 400, 401, 404, 429, 500, 503]);
    const body = isRight ? Buffer.from(JSON.stringify(valid)) : jsonBytes(random, answered < 300 ? valid : REFUSED);
    const version = random.chance(0.9) ? '&$version=10' : '';
    const topic = `$iothub/twin/res/${answered}/?$rid=${requestId}${version}`;
    const topics = [
      ...(random.chance(0.1) ? [topic.replace(requestId, 'foreign')] : []),
      isRight || random.chance(0.8) ? topic : mutateText(random, topic),
      ...(random.chance(0.1) ? [topic] : []),
    ];
    queueMicrotask(() => {
      for (const each of topics) if (!connection.isOver) this.#deliver(connection, each, body);
    });
  }

  #deliver(connection: FakeHubConnection, topic: string, payload: Uint8Array): void {
    this.#counter.answers += 1;
    this.#random.note('delivery', [topic, Buffer.from(payload.subarray(0, 200)).toString('latin1')]);
    const isAcknowledged = this.#random.chance(0.5);
    connection.request.onMessage({ topic, payload, ...(isAcknowledged ? { acknowledge: () => {} } : {}) });
  }
}

function lost(): TransportError {
  return new TransportError({
    code: 'ERR_DPS_CONNECTION_LOST',
    message: 'lost',
    phase: 'established',
    peer: 'hub.example:8883',
    retryable: true,
  });
}
