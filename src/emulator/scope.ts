/** One ID scope put together: its service, its enrollments, its hubs, and the controls over them. */
import type { Clock } from '../core/clock.js';
import type { ResolvedConfig, ResolvedScope, Unread } from './config.js';
import {
  describeGroup,
  describeIndividual,
  type EnrollmentGroup,
  type IndividualEnrollment,
  type SymmetricKeysGiven,
  type SymmetricKeysMade,
} from './enrollment.js';
import { EnrollmentStore } from './enrollment-store.js';
import { Hub } from './hub.js';
import type { StoredDevice } from './hub-controls.js';
import type { JsonValue } from './json.js';
import type { DeviceRegistrationState, RegistrationRecord } from './registration-record.js';
import { ProvisioningScope } from './service.js';
import type { World } from './world.js';

/** What an operator would do with one provisioning service. */
export interface ScopeControls {
  readonly idScope: string;
  /** Creates or replaces. @returns it with its keys, generated ones included. @throws {ConfigurationError} */
  enroll(enrollment: IndividualEnrollment & SymmetricKeysGiven): IndividualEnrollment & SymmetricKeysMade;
  enroll(enrollment: IndividualEnrollment): IndividualEnrollment;
  /** Creates or replaces. @returns it with its keys, generated ones included. @throws {ConfigurationError} */
  enrollGroup(group: EnrollmentGroup & SymmetricKeysGiven): EnrollmentGroup & SymmetricKeysMade;
  enrollGroup(group: EnrollmentGroup): EnrollmentGroup;
  /** Replaces the named members. @throws {ConfigurationError} also when there is no such enrollment. */
  updateEnrollment(registrationId: string, changes: Partial<IndividualEnrollment>): IndividualEnrollment;
  /** Replaces the named members. @throws {ConfigurationError} also when there is no such group. */
  updateEnrollmentGroup(enrollmentGroupId: string, changes: Partial<EnrollmentGroup>): EnrollmentGroup;
  /** Also forgets its registration; the hub identity stays. Whether there was one. */
  removeEnrollment(registrationId: string): boolean;
  /** Also forgets its registrations; the hub identities stay. Whether there was one. */
  removeEnrollmentGroup(enrollmentGroupId: string): boolean;
  enrollments(): readonly IndividualEnrollment[];
  enrollmentGroups(): readonly EnrollmentGroup[];
  registrations(): readonly DeviceRegistrationState[];
  registration(registrationId: string): DeviceRegistrationState | undefined;
  /** The `payload` that came with the device's last registration. */
  receivedPayload(registrationId: string): JsonValue | undefined;
  /** Forgets the registration, so that the next one starts afresh; the hub identity stays. Whether there was one. */
  removeRegistration(registrationId: string): boolean;
}

/** A scope as it is stored. */
export interface StoredScope {
  readonly idScope: string;
  /** `isConfigured`: it came from the configuration, which decides whether it is still there. */
  readonly enrollments: readonly { readonly isConfigured: boolean; readonly enrollment: IndividualEnrollment }[];
  readonly enrollmentGroups: readonly { readonly isConfigured: boolean; readonly enrollment: EnrollmentGroup }[];
  readonly registrations: readonly RegistrationRecord[];
  readonly hubs: readonly { readonly name: string; readonly devices: readonly StoredDevice[] }[];
}

export interface ScopeSurroundings {
  readonly clock: Clock;
  readonly world: World;
  readonly baseDirectory: string;
  readonly rules: Pick<ResolvedConfig, 'retryAfterSeconds' | 'refuseConcurrent'>;
  readonly stored: StoredScope | undefined;
  onChange(): void;
}

export class EmulatedScope implements ScopeControls {
  readonly idScope: string;
  readonly service: ProvisioningScope;
  readonly hubs: readonly Hub[];
  readonly #enrollments: EnrollmentStore;
  /** Ids that the configuration has, lower case. */
  readonly #configured: { readonly individuals: ReadonlySet<string>; readonly groups: ReadonlySet<string> };

  /** @throws {ConfigurationError} when an enrollment of the configuration is wrong. */
  constructor(config: ResolvedScope, around: ScopeSurroundings) {
    const { world, clock, baseDirectory, onChange, stored } = around;
    this.idScope = config.idScope;
    this.hubs = config.hubs.map((hub) => new Hub({ ...hub, world, clock, onChange }));
    this.#enrollments = new EnrollmentStore({
      world,
      baseDirectory,
      onChange,
      defaultPolicy: config.allocationPolicy,
      hubs: this.hubs,
      authorities: config.authorities,
    });
    this.service = new ProvisioningScope({
      ...around.rules,
      idScope: config.idScope,
      world,
      onChange,
      defaultPolicy: config.allocationPolicy,
      hubs: this.hubs,
      enrollments: this.#enrollments,
    });
    this.#configured = {
      individuals: idsOf(config.enrollments, 'registrationId'),
      groups: idsOf(config.enrollmentGroups, 'enrollmentGroupId'),
    };
    if (stored !== undefined) this.#restore(stored);
    for (const { value, path } of config.enrollments) this.#enrollments.putIndividual(value, path);
    for (const { value, path } of config.enrollmentGroups) this.#enrollments.putGroup(value, path);
  }

  enroll(enrollment: IndividualEnrollment & SymmetricKeysGiven): IndividualEnrollment & SymmetricKeysMade;
  enroll(enrollment: IndividualEnrollment): IndividualEnrollment;
  enroll(enrollment: IndividualEnrollment): IndividualEnrollment {
    return this.#enrollments.putIndividual(enrollment, '');
  }

  enrollGroup(group: EnrollmentGroup & SymmetricKeysGiven): EnrollmentGroup & SymmetricKeysMade;
  enrollGroup(group: EnrollmentGroup): EnrollmentGroup;
  enrollGroup(group: EnrollmentGroup): EnrollmentGroup {
    return this.#enrollments.putGroup(group, '');
  }

  updateEnrollment(registrationId: string, changes: Partial<IndividualEnrollment>): IndividualEnrollment {
    return this.#enrollments.updateIndividual(registrationId, changes);
  }

  updateEnrollmentGroup(enrollmentGroupId: string, changes: Partial<EnrollmentGroup>): EnrollmentGroup {
    return this.#enrollments.updateGroup(enrollmentGroupId, changes);
  }

  removeEnrollment(registrationId: string): boolean {
    this.service.removeRegistrationsOf('individual', registrationId);
    return this.#enrollments.removeIndividual(registrationId);
  }

  removeEnrollmentGroup(enrollmentGroupId: string): boolean {
    this.service.removeRegistrationsOf('group', enrollmentGroupId);
    return this.#enrollments.removeGroup(enrollmentGroupId);
  }

  enrollments(): readonly IndividualEnrollment[] {
    return this.#enrollments.individuals().map(describeIndividual);
  }

  enrollmentGroups(): readonly EnrollmentGroup[] {
    return this.#enrollments.groups().map(describeGroup);
  }

  registrations(): readonly DeviceRegistrationState[] {
    return this.service.registrations();
  }

  registration(registrationId: string): DeviceRegistrationState | undefined {
    return this.service.registration(registrationId);
  }

  receivedPayload(registrationId: string): JsonValue | undefined {
    return this.service.receivedPayload(registrationId);
  }

  removeRegistration(registrationId: string): boolean {
    return this.service.removeRegistration(registrationId);
  }

  /** Everything that should outlive a restart. */
  snapshot(): StoredScope {
    const { individuals, groups } = this.#configured;
    return {
      idScope: this.idScope,
      enrollments: this.enrollments().map((enrollment) => ({
        isConfigured: individuals.has(enrollment.registrationId.toLowerCase()),
        enrollment,
      })),
      enrollmentGroups: this.enrollmentGroups().map((enrollment) => ({
        isConfigured: groups.has(enrollment.enrollmentGroupId.toLowerCase()),
        enrollment,
      })),
      registrations: this.service.snapshot(),
      hubs: this.hubs.map((hub) => ({ name: hub.name, devices: hub.snapshot() })),
    };
  }

  #restore(stored: StoredScope): void {
    const { individuals, groups } = this.#configured;
    // What the configuration still has is read again over this, and keeps the keys that were generated for it.
    for (const { isConfigured, enrollment } of stored.enrollments) {
      if (isConfigured && !individuals.has(enrollment.registrationId.toLowerCase())) continue;
      this.#enrollments.putIndividual(enrollment, 'stateFile');
    }
    for (const { isConfigured, enrollment } of stored.enrollmentGroups) {
      if (isConfigured && !groups.has(enrollment.enrollmentGroupId.toLowerCase())) continue;
      this.#enrollments.putGroup(enrollment, 'stateFile');
    }
    this.service.restore(stored.registrations);
    for (const hub of this.hubs) hub.restore(stored.hubs.find(({ name }) => name === hub.name)?.devices ?? []);
  }
}

function idsOf(unread: readonly Unread[], key: string): ReadonlySet<string> {
  const ids = unread.map(({ value }) => (value as Record<string, unknown> | null)?.[key]);
  return new Set(ids.filter((id) => typeof id === 'string').map((id) => id.toLowerCase()));
}
