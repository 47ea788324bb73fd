/** Where the presets' payloads say what happened, and what that is called. */
export const PRESETS = {
  uptime_kuma: { path: 'heartbeat.status', events: { down: 0, up: 1 }, usual: ['down'] },
  healthchecks: { path: 'status', events: { down: 'down', up: 'up' }, usual: ['down'] },
  alertmanager: { path: 'status', events: { firing: 'firing', resolved: 'resolved' }, usual: ['firing'] },
  registry_package: { path: 'action', events: { published: 'published', updated: 'updated' }, usual: ['published'] },
  generic: undefined,
} as const;

/** A hook as agent.yaml has it. */
export interface Hook {
  name: string;
  intent: string;
  preset: keyof typeof PRESETS;
  /** Events of the preset that count; for `generic` all do. */
  on?: string[] | undefined;
  hmac_file?: string | undefined;
  token_file?: string | undefined;
  path_file?: string | undefined;
  when: { path: string; is: (string | number | boolean)[] }[];
  params: Record<string, string | number | boolean | { from: string; pattern: string }>;
  cooldown: string;
  max_per_hour: number;
}
