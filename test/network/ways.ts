import { putBetweenMarks } from '../fleet/fleet-report.js';

/** How DPS is spoken to. */
export const PROTOCOLS = ['mqtt', 'mqtt-ws', 'amqp', 'amqp-ws', 'https'] as const;
export const HUB_PROTOCOLS = ['mqtt', 'mqtt-ws'] as const;
export const ATTESTATIONS = ['symmetricKey', 'x509', 'tpm'] as const;
export const PROXIES = ['none', 'http', 'socks5'] as const;

export type Protocol = (typeof PROTOCOLS)[number];
export type HubProtocol = (typeof HUB_PROTOCOLS)[number];
export type Attestation = (typeof ATTESTATIONS)[number];
export type ProxyChoice = (typeof PROXIES)[number];

/** One way from nothing to the twin. */
export interface Way {
  readonly protocol: Protocol;
  readonly attestation: Attestation;
  readonly proxy: ProxyChoice;
  readonly hubProtocol: HubProtocol;
}

/** MQTT has no place for a TPM's challenge: the service does not offer it. */
export function exists(protocol: Protocol, attestation: Attestation): boolean {
  return attestation !== 'tpm' || !protocol.startsWith('mqtt');
}

/** All that there are: each is a case of every-way.test.ts, and a word in the table of docs/networks.md. */
export const WAYS: readonly Way[] = PROTOCOLS.flatMap((protocol) =>
  ATTESTATIONS.filter((attestation) => exists(protocol, attestation)).flatMap((attestation) =>
    PROXIES.flatMap((proxy) => HUB_PROTOCOLS.map((hubProtocol) => ({ protocol, attestation, proxy, hubProtocol }))),
  ),
);

/** The document with the table that the ways make. */
export function withTable(document: string, ways: readonly Way[]): string {
  return putBetweenMarks(document, 'ways', tableOf(ways));
}

const PORTS: Readonly<Record<Protocol, number>> = {
  mqtt: 8883,
  'mqtt-ws': 443,
  amqp: 5671,
  'amqp-ws': 443,
  https: 443,
};
const IDENTITIES: Readonly<Record<Attestation, string>> = { symmetricKey: 'symmetric key', x509: 'X.509', tpm: 'TPM' };

function tableOf(ways: readonly Way[]): string {
  const head =
    '| DPS over | port | identity | no proxy | HTTP CONNECT | SOCKS5 |\n| --- | ---: | --- | --- | --- | --- |';
  const rows = PROTOCOLS.flatMap((protocol) =>
    ATTESTATIONS.map((attestation) => {
      const cells = PROXIES.map((proxy) =>
        cellOf(
          ways.filter((way) => way.protocol === protocol && way.attestation === attestation && way.proxy === proxy),
        ),
      );
      return `| \`${protocol}\` | ${PORTS[protocol]} | ${IDENTITIES[attestation]} | ${cells.join(' | ')} |`;
    }),
  );
  return [head, ...rows].join('\n');
}

/** The hub protocols it goes on with. */
function cellOf(ways: readonly Way[]): string {
  return ways.length === 0 ? '–' : ways.map(({ hubProtocol }) => `\`${hubProtocol}\``).join(', ');
}
