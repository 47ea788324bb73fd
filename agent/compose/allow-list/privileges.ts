import type { ComposeRules } from '../../plan/compose-config.ts';
import { isUnder } from '../../plan/paths.ts';
import {
  amount,
  below,
  type ComposeNode,
  custom,
  documented,
  form,
  granted,
  isNode,
  type KeyRule,
  list,
  map,
  matching,
  object,
  type Place,
  printable,
  refuse,
  text,
} from './key-rule.ts';

/** The capabilities that the engine gives to each container: adding one of them gives no more. */
const DEFAULT_CAPABILITIES = [
  'AUDIT_WRITE',
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'FSETID',
  'KILL',
  'MKNOD',
  'NET_BIND_SERVICE',
  'NET_RAW',
  'SETFCAP',
  'SETGID',
  'SETPCAP',
  'SETUID',
  'SYS_CHROOT',
];

export const addedCapabilities: KeyRule = list(
  custom('nothing for the engine’s defaults; list `capabilities` or the grant for others', (value, at) => {
    if (typeof value !== 'string' || !/^[A-Za-z_]{2,40}$/.test(value))
      return refuse(at, ' is not the name of a capability');
    const name = capabilityName(value);
    const { grants, capabilities } = at.rules;
    if (DEFAULT_CAPABILITIES.includes(name) || grants.includes('capabilities')) return;
    if (name !== 'ALL' && capabilities.some(one => capabilityName(one) === name)) return;
    refuse(at, ` adds the capability ${name}`, [
      ...(name === 'ALL' ? [] : [{ list: 'capabilities' as const, value: name }]),
      { grant: 'capabilities' },
    ]);
  }),
);

function capabilityName(text: string): string {
  return text.toUpperCase().replace(/^CAP_/, '');
}

export const droppedCapabilities: KeyRule = list(matching(/^[A-Za-z_]{2,40}$/, 'the name of a capability'));

export const securityOptions: KeyRule = list(
  granted(
    'capabilities',
    // Compose reads the file of a seccomp profile when it starts the container: after the check.
    matching(
      /^(no-new-privileges([:=](true|false))?|seccomp[:=](unconfined|builtin)|apparmor[:=][\w.-]{1,100}|label[:=](disable|(user|role|type|level):[\w.:,-]{1,100})|systempaths[:=]unconfined)$/,
      'no-new-privileges, or seccomp, apparmor, label and systempaths without a file',
    ),
    {
      harmless: value => typeof value === 'string' && /^no-new-privileges([:=](true|false))?$/.test(value),
      reason: ' changes a protection of the container',
      needs: 'nothing for no-new-privileges; `capabilities` for other options; never the file of a profile',
    },
  ),
);

export const privileged: KeyRule = granted(
  'privileged',
  form('true or false', value => typeof value === 'boolean'),
  { reason: ' is true: the container is root on the host' },
);

/** Annotations are orders to the container's runtime: some runtimes start programs of the host by them. */
export const annotations: KeyRule = granted('privileged', map(text), {
  harmless: value => isNode(value) && Object.keys(value).length === 0,
  reason: ' gives orders to the container runtime',
});

export const devices: KeyRule = list(
  object(
    {
      source: documented('list `devices` or the grant', text),
      target: text,
      permissions: matching(/^[rwm]{0,3}$/, 'some of "rwm"'),
    },
    ({ source }, at) => {
      if (typeof source !== 'string' || /[$\n]|(^|\/)\.\.(\/|$)/.test(source))
        return refuse(at, ` is not the path of a device: ${printable(source)}`);
      if (mayUseDevice(source, at.rules)) return;
      refuse(at, ` uses the device ${printable(source)}`, [{ list: 'devices', value: source }, { grant: 'devices' }]);
    },
  ),
);

function mayUseDevice(source: string, { grants, devices: allowed }: ComposeRules): boolean {
  // A list names devices below /dev, which no container can replace, and names of CDI.
  return (
    grants.includes('devices') || allowed.some(one => one === source || (isUnder(one, '/dev') && isUnder(source, one)))
  );
}

const everyText = list(text);

/** Requests of GPUs and other devices of a driver. */
export const deviceRequests: KeyRule = granted(
  'devices',
  list(
    object({
      capabilities: everyText,
      driver: text,
      count: form('a number', value => Number.isInteger(value) || value === 'all'),
      device_ids: everyText,
      options: map(text),
    }),
  ),
  { reason: ' reserves devices of the host' },
);

export const deviceRules: KeyRule = granted(
  'devices',
  list(matching(/^[abc] ([0-9]{1,9}|\*):([0-9]{1,9}|\*) [rwm]{1,3}$/, 'a rule such as "c 166:* rmw"')),
  { reason: ' allows devices of the host' },
);

/** Runtimes of the engine's own config, by name. A path or a shim would start a program of the host. */
export const runtime: KeyRule = granted('devices', matching(/^[a-z0-9][a-z0-9_-]{0,60}$/, 'the name of a runtime'), {
  harmless: value => ['', 'runc'].includes(value as string),
  reason: ' is another runtime than runc',
  needs: 'nothing for runc; `devices` for another one of the engine’s config; never a path',
});

/** Kernel settings that belong to the container's own namespaces. */
export const sysctls: KeyRule = {
  needs: 'nothing for settings of the container’s namespaces (`net.*`, `fs.mqueue.*`, IPC); never others',
  each: text,
  isMap: true,
  check: (value, at) => {
    if (!isNode(value)) return refuse(at, ' is not a map');
    for (const [name, one] of Object.entries(value)) {
      if (
        !/^(net\.[\w.*/-]+|fs\.mqueue\.\w+|kernel\.(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced))$/.test(
          name,
        )
      )
        refuse(below(at, name), ' is a setting of the whole host');
      else text.check(one, below(at, name));
    }
  },
};

const LOCAL_LOG_OPTIONS = [
  'max-size',
  'max-file',
  'compress',
  'labels',
  'labels-regex',
  'env',
  'env-regex',
  'tag',
  'mode',
  'max-buffer-size',
];

export const logging: KeyRule = object(
  {
    driver: documented('nothing for json-file, local, journald and none; `log-drivers` for others', text),
    options: documented('nothing for size, labels and tags; `log-drivers` for others', map(text)),
  },
  ({ driver = '', options = {} }, at) => {
    if (at.rules.grants.includes('log-drivers')) return;
    if (!['', 'json-file', 'local', 'journald', 'none'].includes(driver as string))
      refuse(below(at, 'driver'), ` is ${printable(driver)}, which sends logs away`, [{ grant: 'log-drivers' }]);
    for (const option of Object.keys(options as ComposeNode))
      if (!LOCAL_LOG_OPTIONS.includes(option))
        refuse(below(below(at, 'options'), option), ' is an option of a driver that sends logs away', [
          { grant: 'log-drivers' },
        ]);
  },
);

const HARMLESS_LIMITS = /^(as|core|cpu|data|fsize|locks|memlock|msgqueue|nofile|nproc|rss|sigpending|stack)$/;
const limit = form('a number, or soft and hard', value => Number.isSafeInteger(value));

export const ulimits: KeyRule = {
  needs: 'nothing; `resources` for `rtprio`, `rttime` and `nice`',
  each: object({ soft: limit, hard: limit }),
  isMap: true,
  check: (value, at) => {
    if (!isNode(value)) return refuse(at, ' is not a map');
    for (const [name, one] of Object.entries(value)) {
      const place = below(at, name);
      if (!HARMLESS_LIMITS.test(name) && !/^(rtprio|rttime|nice)$/.test(name))
        refuse(place, ' is unknown to this agent');
      else if (!HARMLESS_LIMITS.test(name) && !at.rules.grants.includes('resources'))
        refuse(place, ' raises the priority above other processes of the host', [{ grant: 'resources' }]);
      else if (isNode(one)) ulimits.each?.check(one, place);
      else limit.check(one, place);
    }
  },
};

const ofDevices = (value: 'rate' | 'weight') =>
  granted('resources', list(object({ path: text, [value]: amount })), { reason: ' names block devices of the host' });

export const blockIo: KeyRule = object({
  weight: amount,
  weight_device: ofDevices('weight'),
  device_read_bps: ofDevices('rate'),
  device_read_iops: ofDevices('rate'),
  device_write_bps: ofDevices('rate'),
  device_write_iops: ofDevices('rate'),
});

export const realTime: KeyRule = granted('resources', amount, {
  harmless: value => value === 0,
  reason: ' sets real-time scheduling',
});

export const outOfMemoryScore: KeyRule = granted('resources', amount, {
  harmless: value => typeof value === 'number' && value >= 0,
  reason: ' lets the kernel end other processes of the host first',
  needs: 'nothing from 0 up; `resources` below 0',
});

export const outOfMemoryKill: KeyRule = granted(
  'resources',
  form('true or false', value => typeof value === 'boolean'),
  { reason: ' is true: the kernel can’t end the container when memory is short' },
);

/** Options of the container's own file system. */
export const storageOptions: KeyRule = object({ size: amount });

/** Commands in a running container: `privileged` is more than the container has. */
export const hooks: KeyRule = list(
  object({
    command: { ...custom('nothing', checkCommand), each: text },
    user: text,
    privileged,
    working_dir: text,
    environment: map(form('a text', value => value === null || typeof value === 'string')),
  }),
);

export const command: KeyRule = { ...custom('nothing', checkCommand), each: text };

function checkCommand(value: unknown, at: Place): void {
  if (Array.isArray(value)) everyText.check(value, at);
  else if (value !== null && typeof value !== 'string') refuse(at, ' is not a text or a list');
}
