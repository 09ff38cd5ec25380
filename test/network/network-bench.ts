import { randomUUID } from 'node:crypto';
import type { Tpm2Hsm } from '../../hsm/tpm2.js';
import { type Provisioning, provision } from '../../src/compose.js';
import type { DpsTransport } from '../../src/core/transport.js';
import {
  type Emulator,
  type EmulatorConfig,
  issueCertificate,
  makeAuthority,
  startEmulator,
} from '../../src/emulator/index.js';
import { isDpsError, TransportError } from '../../src/errors.js';
import type { ProvisionOptions } from '../../src/provision-options.js';
import { systemClock } from '../../src/system-clock.js';
import { httpsDpsTransport } from '../../src/transports/https.js';
import { signal, TpmBench } from '../hsm/tpm2/tpm-bench.js';
import type { Attestation, Protocol } from './ways.js';

export const DESIRED = { fan: 'on' };

export type Settings = Pick<
  ProvisionOptions,
  'proxy' | 'hubTransport' | 'connectTimeoutMs' | 'deadlineMs' | 'signal'
> & {
  readonly protocol: Protocol;
  /** Default: a symmetric key. A TPM of one's own is not enrolled. */
  readonly attestation?: Attestation | Tpm2Hsm;
  /** Default: where the emulator listens for the protocol. */
  readonly endpoint?: string;
  /** Leaves the hub's connection to the proxy, and goes to DPS without. */
  readonly isDirectToDps?: boolean;
};

type Identities = Readonly<Record<'symmetricKey' | 'x509', ProvisionOptions['hsm']>>;

/** DPS and a hub, and a device of each kind that is enrolled there. */
export class NetworkBench {
  readonly emulator: Emulator;
  readonly #identities: Identities;
  #tpm: { readonly bench: TpmBench; readonly hsm: Tpm2Hsm } | undefined;

  private constructor(emulator: Emulator, identities: Identities) {
    this.emulator = emulator;
    this.#identities = identities;
  }

  static async start(config: EmulatorConfig = {}): Promise<NetworkBench> {
    const emulator = await startEmulator({ retryAfterSeconds: 0, ...config });
    const initialTwin = { properties: { desired: DESIRED } };
    const { attestation } = emulator.enroll({
      registrationId: 'key-1',
      attestation: { type: 'symmetricKey', symmetricKey: {} },
      initialTwin,
    });
    const authority = await makeAuthority({ commonName: 'factory' });
    const { chainPem, privateKeyPem } = await issueCertificate(authority, { commonName: 'x509-1', usage: 'client' });
    emulator.enrollGroup({
      enrollmentGroupId: 'certified',
      attestation: { x509: { signingCertificates: { primary: { certificate: authority.certificatePem } } } },
      initialTwin,
    });
    const key = attestation.symmetricKey?.primaryKey ?? '';
    return new NetworkBench(emulator, {
      symmetricKey: { kind: 'symmetricKey', registrationId: 'key-1', key },
      x509: { kind: 'x509', certificatePem: chainPem, keyPem: privateKeyPem },
    });
  }

  /** A TPM of its own: swtpm. */
  async addTpm(): Promise<TpmBench> {
    const bench = await TpmBench.start();
    const hsm = await bench.device();
    this.#tpm = { bench, hsm };
    const { enrollment } = await hsm.identity(signal);
    this.emulator.enroll({ ...enrollment, initialTwin: { properties: { desired: DESIRED } } });
    return bench;
  }

  async stop(): Promise<void> {
    await this.#tpm?.bench.stop();
    await this.emulator.close();
  }

  /** Where the emulator listens for it, as `host:port`. */
  endpointOf(protocol: Protocol): string {
    const { mqtt, amqp, https } = this.emulator.endpoints.dps;
    if (protocol === 'mqtt') return mqtt;
    return protocol === 'amqp' ? amqp : https;
  }

  get hub(): string {
    return this.emulator.endpoints.hubs[0]?.hostName ?? '';
  }

  /** From nothing to the twin, over the protocol of DPS that is named. */
  provision(settings: Settings): Provisioning {
    const { protocol, attestation = 'symmetricKey', isDirectToDps: _, ...more } = settings;
    return provision({
      idScope: this.emulator.idScope,
      endpoint: this.endpointOf(protocol),
      ca: this.emulator.caPem,
      hsm: this.#identity(attestation),
      transport: this.#transport(settings),
      random: () => 0,
      ...more,
    });
  }

  #identity(attestation: Attestation | Tpm2Hsm): ProvisionOptions['hsm'] {
    if (typeof attestation !== 'string') return attestation;
    if (attestation !== 'tpm') return this.#identities[attestation];
    if (this.#tpm === undefined) throw new Error('This bench has no TPM: addTpm().');
    return this.#tpm.hsm;
  }

  /** Objects of the application's own take no part in the option `proxy`. */
  #transport({ protocol, isDirectToDps = false }: Settings): DpsTransport | Protocol {
    const { caPem: ca } = this.emulator;
    return isDirectToDps ? httpsDpsTransport({ ca, clock: systemClock, randomUuid: randomUUID }) : protocol;
  }
}

/** What a journey ended with. */
export async function failureOf(journey: Promise<unknown>): Promise<TransportError> {
  const reason: unknown = await journey.then(
    () => new Error('It succeeded.'),
    (error: unknown) => error,
  );
  if (isDpsError(reason) && reason instanceof TransportError) return reason;
  throw reason;
}

/** What a journey met first that it waits for to pass; it is broken off there. */
export async function firstWaitOf(start: (signal: AbortSignal) => Provisioning): Promise<string | undefined> {
  const caller = new AbortController();
  const journey = start(caller.signal);
  const ended = journey.then(
    () => undefined,
    () => undefined,
  );
  let detail: string | undefined;
  for await (const event of journey.events) {
    if (event.type !== 'waiting' || event.reason !== 'network') continue;
    detail ??= event.detail;
    caller.abort();
  }
  await ended;
  return detail;
}
