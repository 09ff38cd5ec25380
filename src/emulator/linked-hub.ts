import type { AllocationCandidate } from './allocation.js';
import type { TwinContent } from './twin-document.js';
import type { HubAuthentication } from './verify.js';

/** A device as a hub's registry knows it. */
export interface HubIdentity {
  readonly deviceId: string;
  readonly authentication: HubAuthentication;
  readonly isEdge: boolean;
}

/** A hub as the provisioning service sees it. */
export interface LinkedHub extends AllocationCandidate {
  /** What devices are told: a host name, with a port unless one was configured without. */
  readonly hostName: string;
  /** Whether it takes part in allocation where an enrollment names no hubs. */
  readonly takesAllocations: boolean;
  /**
   * Creates the identity with this twin, or gives an existing one the new credentials. With `overwrite`, an existing
   * twin gets the content merged in; without, it stays.
   */
  putDevice(identity: HubIdentity, content: TwinContent, how: { readonly overwrite: boolean }): void;
  /** What the identity is proved with, if the hub has it. */
  authenticationOf(deviceId: string): HubAuthentication | undefined;
  contentOf(deviceId: string): TwinContent | undefined;
  removeDevice(deviceId: string): boolean;
}
