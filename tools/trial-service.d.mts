export interface TrialService {
  describeIn(folder: string): void;
  close(): Promise<void>;
}

export function startTrialService(): Promise<TrialService>;
