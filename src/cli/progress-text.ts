import type { ProgressEvent } from '../core/progress.js';

const ATTESTATIONS = { symmetricKey: 'a symmetric key', x509: 'an X.509 certificate', tpm: 'a TPM' } as const;

const WAITS = {
  poll: 'as the service asked',
  throttled: 'the service is throttling',
  unavailable: 'the service is not available',
  network: 'the connection failed',
  refused: 'the service refused',
  budget: 'not to ask too often',
  spread: 'so that not all devices ask at once',
} as const;

const RECORDS = {
  found: 'the stored record leads to a hub',
  none: 'no stored record',
  damaged: 'the stored record is damaged',
  foreign: 'the stored record is of another configuration',
  saved: 'the record is stored',
  unsaved: 'the record could not be stored',
} as const;

const WAYS_BACK = {
  refused: 'the hub refused the device',
  unreachable: 'the hub cannot be reached',
  asked: 'somebody asked for it',
  'new-key': 'a key is staged that the hub cannot know yet',
} as const;

/** Where not the service has refused: by the code that is told as the detail. */
const OWN_REASONS: ReadonlyMap<string | undefined, string> = new Map([
  ['ERR_DPS_HSM_TPM_NO_IDENTITY', 'the TPM holds no hub key'],
  ['ERR_DPS_CLOCK_IMPLAUSIBLE', 'the clock seems wrong'],
  ['ERR_DPS_TLS_UNTRUSTED', 'the server is not trusted'],
]);

const PEERS = { dps: 'DPS', hub: 'IoT hub' } as const;

/** One line for a step, for people; `undefined` for what is told in another way. */
export function describeProgress(event: ProgressEvent): string | undefined {
  switch (event.type) {
    case 'started':
      return `registering ${event.registrationId} in ${event.idScope} by ${ATTESTATIONS[event.attestation]} over ${event.transport}`;
    case 'connecting':
      return `connecting to ${PEERS[event.to]} at ${event.peer}${over(event.transport)}${attempt(event.attempt)}`;
    case 'next-transport':
      return `${event.after} does not get through to ${PEERS[event.to]} (${event.code}: ${event.message}); trying ${event.transport}`;
    case 'connected':
      return `connected to ${PEERS[event.to]} at ${event.peer}${over(event.transport)}`;
    case 'looking-up':
      return 'asking what the service knows of this device';
    case 'registering':
      return `asking for registration${attempt(event.attempt)}`;
    case 'challenged':
      return 'answering the challenge to the TPM';
    case 'assigning':
      return `the service is assigning a hub, operation ${event.operationId}`;
    case 'waiting':
      return `waiting ${seconds(event.forMs)} s, ${OWN_REASONS.get(event.detail) ?? WAITS[event.reason]}${detail(event.detail)}`;
    case 'polling':
      return `asking how the registration is going${attempt(event.attempt)}`;
    case 'next-credential':
      return `refused; trying credential ${event.slot + 1}`;
    case 'assigned':
      return `assigned to ${event.assignedHub} as ${event.deviceId}${event.substatus === undefined ? '' : `, ${event.substatus}`}`;
    case 'twin':
      return `twin received, desired version ${event.desiredVersion}, reported version ${event.reportedVersion}`;
    case 'provisioned':
      return `provisioned: ${event.deviceId} at ${event.assignedHub}`;
    case 'record':
      return `${RECORDS[event.outcome]}${detail(event.detail)}`;
    case 'key-rolled':
      return 'the hub accepted the staged key: it is the key in use from now on';
    case 'commit-failed':
      return `the accepted key is not committed: ${event.message}`;
    case 'reprovisioning':
      return `back to DPS, ${OWN_REASONS.get(event.detail) ?? WAYS_BACK[event.reason]}${detail(event.detail)}`;
    case 'offline':
      return `offline: ${event.message}`;
    case 'ended':
      return undefined;
  }
}

function detail(text: string | undefined): string {
  return text === undefined || text === '' ? '' : `: ${text}`;
}

function over(transport: string | undefined): string {
  return transport === undefined ? '' : ` over ${transport}`;
}

function attempt(number: number): string {
  return number > 1 ? `, attempt ${number}` : '';
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(ms < 10_000 ? 1 : 0);
}
