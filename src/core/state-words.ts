import type { JourneyState } from './journey-state.js';
import type { RegistrationState } from './registration-state.js';

type StateName = JourneyState['name'] | RegistrationState['name'];

/** What the device is doing in each state of the two machines: people read it after "while". */
const WORDS: { readonly [Name in StateName]: string } = {
  Idle: 'getting ready',
  AwaitingRecord: 'reading the stored record',
  AwaitingStart: 'waiting out its part of the start spread',
  Registering: 'registering with DPS',
  AwaitingCredential: 'preparing its credential for DPS',
  AwaitingConnection: 'connecting to DPS',
  AwaitingLookupReply: 'asking DPS what it knows of this device',
  AwaitingRegisterReply: 'waiting for the answer of DPS to the request for registration',
  AwaitingActivation: 'answering the challenge to the TPM',
  AwaitingPollTime: 'waiting for the assignment',
  AwaitingStatusReply: 'asking DPS about the assignment',
  AwaitingRetryTime: 'waiting to try DPS again',
  AwaitingNote: 'noting in the stored record that DPS assigned another hub',
  AwaitingStaging: 'taking in the hub key that DPS sent',
  AwaitingHub: 'connecting to the assigned hub and reading the twin',
  AwaitingHubRetry: 'waiting to try the assigned hub again',
  AwaitingCommit: 'making the key that the hub accepted the key in use',
  AwaitingSave: 'storing the record',
  Online: 'connected to the assigned hub',
  AwaitingReturn: 'waiting to try again after DPS could not help',
  AwaitingLastSave: 'storing the record at the end',
  Done: 'ending',
};

/** A state as errors take it: its name for programs, and what the device was doing for people. */
export function toldState({ name }: { readonly name: StateName }): { readonly state: string; readonly doing: string } {
  return { state: name, doing: WORDS[name] };
}
