import type { AttestationKind } from '../../src/core/attestation.js';
import type { Now } from '../../src/core/clock.js';
import {
  type Journey,
  type JourneyConfig,
  type JourneyInput,
  journeyWakeAtMs,
  newJourney,
  stepJourney,
} from '../../src/core/journey.js';
import {
  newRegistration,
  type Registration,
  type RegistrationInput,
  registrationWakeAtMs,
  stepRegistration,
} from '../../src/core/registration.js';
import type { AnyEffect } from './effect-rules.js';
import type { FuzzRandom } from './fuzz-random.js';
import { randomJson } from './json-mutations.js';

/** One of the core's machines, driven the same way. */
export interface Machine {
  step(input: JourneyInput, now: Now): readonly AnyEffect[];
  wakeAtMs(): number | undefined;
  readonly stateName: string;
}

export function registrationMachine(config: JourneyConfig): Machine {
  let registration: Registration = newRegistration(config);
  return {
    step(input, now) {
      const step = stepRegistration(registration, input as RegistrationInput, now);
      registration = step.registration;
      return step.effects;
    },
    wakeAtMs: () => registrationWakeAtMs(registration),
    get stateName() {
      return registration.state.name;
    },
  };
}

export function journeyMachine(config: JourneyConfig): Machine {
  let journey: Journey = newJourney(config);
  return {
    step(input, now) {
      const step = stepJourney(journey, input, now);
      journey = step.journey;
      return step.effects;
    },
    wakeAtMs: () => journeyWakeAtMs(journey),
    get stateName() {
      return journey.state.name === 'Registering'
        ? `Registering/${journey.state.registration.state.name}`
        : journey.state.name;
    },
  };
}

/** Bounds from a millisecond to a day, and the usual ones. */
export function randomConfig(random: FuzzRandom): JourneyConfig {
  const attestation = random.pick<AttestationKind>(['symmetricKey', 'x509', 'tpm']);
  return {
    idScope: '0ne00111111',
    registrationId: 'dev-1',
    attestation,
    slots: random.pick([1, 1, 2, 3]),
    transport: 'fake',
    endpoint: 'dps.example:443',
    deadlineMs: random.pick([1, 50, 2_500, 30_000, 100_000, 300_000, 300_000, 86_400_000]),
    connectTimeoutMs: random.pick([1, 500, 20_000, 60_000]),
    requestTimeoutMs: random.pick([1, 500, 10_000, 30_000]),
    hubTimeoutMs: random.pick([1, 5_000, 60_000, 150_000]),
    tokenLifeSeconds: random.pick([5, 30, 120, 3_600, 3_600, 31_536_000]),
    ...(random.chance(0.3) ? { payload: randomJson(random, 2) } : {}),
    ...(attestation === 'tpm' ? { tpm: { endorsementKey: random.bytes(8), storageRootKey: random.bytes(8) } } : {}),
  };
}
