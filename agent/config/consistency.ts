import { explainInvalidCron } from './schedules.ts';
import { type AllowRule, type DenyRule, matchesPattern, type TrustEntry } from './trust.ts';

/** A contradiction in agent.yaml: its path, and the reason. */
export interface Inconsistency {
  path: (string | number)[];
  message: string;
}

/** The parts of agent.yaml that are checked against each other. */
interface ConsistencyInput {
  trust: TrustEntry[];
  github?: object | undefined;
  proxmox: { api?: object | undefined; programs?: string | undefined };
  hooks: { name: string }[];
  notify: { channels: { name: string }[]; rules: { channels: string[] }[] };
  schedules: { name: string; cron: string; timezone: string }[];
}

const BACKUP_ONLY = ['guests', 'kinds', 'destinations'] as const;

/** Finds rules that never admit anything, and settings that contradict each other. */
export function findInconsistencies({
  trust,
  github,
  proxmox,
  schedules,
  notify,
  hooks,
}: ConsistencyInput): Inconsistency[] {
  const ofProxmox: Inconsistency[] =
    proxmox.api && proxmox.programs !== undefined
      ? [{ path: ['proxmox', 'programs'], message: 'Expected either "programs" or "api"' }]
      : [];
  const ofEntries = trust.flatMap((entry, index) => {
    const at = (...rest: (string | number)[]) => ['trust', index, ...rest];
    const found: Inconsistency[] = [];
    if (entry.local !== undefined) {
      const authenticator = (
        ['key', 'github', 'tailscale', 'repository', 'confirm_with_github', 'may_ask'] as const
      ).find(key => entry[key] !== undefined);
      if (authenticator !== undefined)
        found.push({
          path: at(authenticator),
          message: `Expected no "${authenticator}" next to "local": the host itself starts these runs`,
        });
      if (trust.findIndex(({ local }) => local === entry.local) !== index)
        found.push({ path: at('local'), message: `Expected only one entry with "local: ${entry.local}"` });
    } else {
      if (entry.key === undefined && !entry.github)
        found.push({ path: at(), message: 'Expected "key", "github" or both' });
      if (entry.repository === undefined) found.push({ path: at(), message: 'Expected "repository"' });
    }
    if (entry.name === 'local')
      found.push({
        path: at('name'),
        message: 'Expected another name: "local" is reserved for commands that a user gives on the host itself',
      });
    if (trust.findIndex(({ name }) => name === entry.name) !== index)
      found.push({ path: at('name'), message: `Expected a unique name; "${entry.name}" is used twice` });
    if (entry.confirm_with_github && !github)
      found.push({ path: at('confirm_with_github'), message: 'Expected github.token_file in agent.yaml as well' });
    for (const [number, rule] of entry.allow.entries())
      for (const { path, message } of checkRule(rule, entry))
        found.push({ path: at('allow', number, ...path), message });
    return found;
  });
  const ofSchedules = schedules.flatMap(({ name, cron, timezone }, index): Inconsistency[] => {
    const cause = explainInvalidCron(cron, timezone);
    return [
      ...(cause === undefined
        ? []
        : [{ path: ['schedules', index, 'cron'], message: `Expected a cron expression that fires: ${cause}` }]),
      ...(schedules.findIndex(one => one.name === name) === index
        ? []
        : [{ path: ['schedules', index, 'name'], message: `Expected a unique name; "${name}" is used twice` }]),
      ...(trust.some(({ local }) => local === 'schedule')
        ? []
        : [
            {
              path: ['schedules', index],
              message: 'Expected a trust entry with "local: schedule", which says what schedules may do',
            },
          ]),
    ];
  });
  const names = notify.channels.map(({ name }) => name);
  const ofNotices = [
    ...names.flatMap((name, index): Inconsistency[] =>
      names.indexOf(name) === index
        ? []
        : [
            {
              path: ['notify', 'channels', index, 'name'],
              message: `Expected a unique name; "${name}" is used twice`,
            },
          ],
    ),
    ...notify.rules.flatMap(({ channels }, index): Inconsistency[] =>
      channels
        .filter(name => !names.includes(name))
        .map(name => ({
          path: ['notify', 'rules', index, 'channels'],
          message: `The channel "${name}" does not exist. Existing channels: ${names.join(', ') || 'none'}`,
        })),
    ),
  ];
  const ofHooks = hooks.flatMap(({ name }, index): Inconsistency[] => [
    ...(hooks.findIndex(one => one.name === name) === index
      ? []
      : [{ path: ['hooks', index, 'name'], message: `Expected a unique name; "${name}" is used twice` }]),
    ...(trust.some(({ local }) => local === 'webhook')
      ? []
      : [
          {
            path: ['hooks', index],
            message: 'Expected a trust entry with "local: webhook", which says what hooks may do',
          },
        ]),
  ]);
  return [...ofProxmox, ...ofHooks, ...ofSchedules, ...ofNotices, ...ofEntries];
}

function checkRule(rule: AllowRule, entry: TrustEntry): Inconsistency[] {
  const found: Inconsistency[] = [];
  const isAboutBackups = rule.actions.some(action => ['backup', 'restore', 'drill'].includes(action));
  for (const key of BACKUP_ONLY)
    if (rule[key] && !isAboutBackups)
      found.push({ path: [key], message: 'This rule admits nothing: its actions are not backup, restore or drill' });
  if (rule.services && !rule.actions.some(action => action === 'rollout' || action === 'scale'))
    found.push({ path: ['services'], message: 'This rule admits nothing: its actions never name a service' });
  if (rule.guests && rule.kinds && !rule.kinds.includes('vm_proxmox'))
    found.push({ path: ['guests'], message: 'This rule admits nothing: its kinds have no guests' });
  const events = entry.github?.event_name;
  const impossible = rule.without_approval?.find(event => events !== undefined && ![events].flat().includes(event));
  if (impossible !== undefined)
    found.push({
      path: ['without_approval'],
      message: `This admits nothing: github.event_name of the entry is never "${impossible}"`,
    });
  const denyIndex = (entry.deny ?? []).findIndex(deny => covers(deny, rule));
  if (denyIndex >= 0)
    found.push({ path: [], message: `This rule admits nothing: deny.${denyIndex + 1} of the entry denies all of it` });
  if (rule.name !== undefined && entry.allow.findIndex(({ name }) => name === rule.name) !== entry.allow.indexOf(rule))
    found.push({ path: ['name'], message: `Expected a unique name; "${rule.name}" is used twice` });
  return found;
}

/** Returns true if the deny rule covers everything that the allow rule allows. */
function covers(deny: DenyRule, allow: AllowRule): boolean {
  return (
    (deny.actions === undefined || allow.actions.every(action => deny.actions?.includes(action))) &&
    coversAll(deny.stacks, allow.stacks) &&
    coversAll(deny.services, allow.services) &&
    coversAll(deny.guests, allow.guests) &&
    coversAll(deny.destinations, allow.destinations) &&
    (deny.kinds === undefined || (allow.kinds?.every(kind => deny.kinds?.includes(kind)) ?? false))
  );
}

/** Compares patterns as far as that is possible without knowing all names. */
function coversAll(denied: string[] | undefined, allowed: string[] | undefined): boolean {
  if (denied === undefined) return true;
  return allowed?.every(name => denied.some(pattern => matchesPattern(pattern, name))) ?? false;
}
