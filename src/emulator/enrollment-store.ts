import type { X509Certificate } from 'node:crypto';
import { ConfigurationError } from '../errors.js';
import {
  type AllocationPolicy,
  describeGroup,
  describeIndividual,
  type EnrollmentEntry,
  type EnrollmentGroup,
  type IndividualEnrollment,
} from './enrollment.js';
import { type EnrollmentSurroundings, readEnrollmentGroup, readIndividualEnrollment } from './enrollment-reader.js';
import type { World } from './world.js';

export interface EnrollmentStoreOptions {
  readonly world: World;
  readonly baseDirectory: string;
  readonly defaultPolicy: AllocationPolicy;
  readonly hubs: readonly { readonly name: string; readonly hostName: string }[];
  readonly authorities: ReadonlyMap<string, X509Certificate>;
  onChange(): void;
}

/** The enrollments of one scope. Ids ignore case. */
export class EnrollmentStore {
  readonly #options: EnrollmentStoreOptions;
  readonly #individuals = new Map<string, EnrollmentEntry>();
  readonly #groups = new Map<string, EnrollmentEntry>();

  constructor(options: EnrollmentStoreOptions) {
    this.#options = options;
  }

  individual(registrationId: string): EnrollmentEntry | undefined {
    return this.#individuals.get(registrationId.toLowerCase());
  }

  /** In order of creation. */
  groups(): readonly EnrollmentEntry[] {
    return [...this.#groups.values()];
  }

  individuals(): readonly EnrollmentEntry[] {
    return [...this.#individuals.values()];
  }

  /** Creates or replaces; keys that are not given stay, or are generated. @throws {ConfigurationError} */
  putIndividual(enrollment: unknown, path: string): IndividualEnrollment {
    const entry = readIndividualEnrollment(
      enrollment,
      path,
      this.#around(this.#individuals, enrollment, 'registrationId'),
    );
    this.#individuals.set(entry.id.toLowerCase(), entry);
    this.#options.onChange();
    return describeIndividual(entry);
  }

  /** Creates or replaces; keys that are not given stay, or are generated. @throws {ConfigurationError} */
  putGroup(group: unknown, path: string): EnrollmentGroup {
    const entry = readEnrollmentGroup(group, path, this.#around(this.#groups, group, 'enrollmentGroupId'));
    this.#groups.set(entry.id.toLowerCase(), entry);
    this.#options.onChange();
    return describeGroup(entry);
  }

  /** Replaces the named members and keeps the others. @throws {ConfigurationError} also when there is no such entry. */
  updateIndividual(registrationId: string, changes: Partial<IndividualEnrollment>): IndividualEnrollment {
    const entry = this.individual(registrationId);
    if (entry === undefined) throw noEntry('individual enrollment', registrationId);
    return this.putIndividual({ ...describeIndividual(entry), ...changes, registrationId: entry.id }, '');
  }

  /** Replaces the named members and keeps the others. @throws {ConfigurationError} also when there is no such entry. */
  updateGroup(enrollmentGroupId: string, changes: Partial<EnrollmentGroup>): EnrollmentGroup {
    const entry = this.#groups.get(enrollmentGroupId.toLowerCase());
    if (entry === undefined) throw noEntry('enrollment group', enrollmentGroupId);
    return this.putGroup({ ...describeGroup(entry), ...changes, enrollmentGroupId: entry.id }, '');
  }

  /** Whether there was one. */
  removeIndividual(registrationId: string): boolean {
    const removed = this.#individuals.delete(registrationId.toLowerCase());
    if (removed) this.#options.onChange();
    return removed;
  }

  /** Whether there was one. */
  removeGroup(enrollmentGroupId: string): boolean {
    const removed = this.#groups.delete(enrollmentGroupId.toLowerCase());
    if (removed) this.#options.onChange();
    return removed;
  }

  #around(entries: ReadonlyMap<string, EnrollmentEntry>, value: unknown, idKey: string): EnrollmentSurroundings {
    const { hubs, world, baseDirectory, defaultPolicy, authorities } = this.#options;
    const id = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[idKey] : undefined;
    return {
      world,
      baseDirectory,
      defaultPolicy,
      authorities,
      hubNames: hubs.map((hub) => hub.name),
      resolveHub: (text) =>
        hubs.find((hub) => hub.name === text || hub.hostName.toLowerCase() === text.toLowerCase())?.name,
      previous: typeof id === 'string' ? entries.get(id.toLowerCase()) : undefined,
    };
  }
}

function noEntry(what: string, id: string): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    message: `There is no ${what} ${JSON.stringify(id)} in this scope; create it first.`,
    option: id,
  });
}
