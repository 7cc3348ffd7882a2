"""Makes configurations by chance and writes what Python's server makes of each.

Usage: corpus.py DIRECTORY SEED COUNT

The keys and types are taken from the schema that `runzeo` loads, so that none is left out. Each case
is a directory; results.jsonl has a line for each of them.
"""

import json
import os
import random
import re
import shutil
import sys
import warnings

import ZConfig
from ZConfig import datatypes
from ZConfig.info import MultiKeyInfo
from ZEO.runzeo import ZEOOptions

STORAGES = ('filestorage',) * 6 + ('mappingstorage', 'blobstorage', 'demostorage', 'zeoclient') * 2
ELSEWHERE = ('fullstorage', 'minimalstorage')
HANDLERS = ('logfile',) * 4 + ('syslog', 'win32-eventlog', 'http-logger', 'email-notifier')
STRANGE = ('zodb', 'logger', 'environment', 'ssl', 'runner', 'zeo', 'eventlog', 'relstorage', 'filestore')

GOOD, ODD, BAD = 0, 1, 2    # how a value is meant to be; the odd ones may go either way

VALUES = {
    'boolean': (['yes', 'no', 'true', 'false', 'on', 'off'], ['YES', 'oFF', 'True'],
                ['1', '0', 'y', 'maybe', 'true false', '']),
    'integer': (['0', '1', '100', '2000'], ['007', '+5', '1_000', '18446744073709551615', '00', '-1', '-0',
                                            '18446744073709551616'],
                ['1.5', '0x10', '1__0', '_1', '1_', '1 0', 'one', '', '+-1', '5s', '1e3',
                 '9' * 30, '+', '--1']),
    'float': (['1', '1.5', '3600'], ['.5', '5.', '1e3', 'inf', 'nan', '-1', '-0', '1_0.5', 'Infinity', '+NaN',
                                     '1e400', '-inf', '1e-400'],
              ['1,5', 'soon', '1h', '', '1_', '_1.0', '1e', '0x1p3', '1.5.2', 'infinit', '1 5']),
    'byte-size': (['0', '100', '16MB', '1gb', '512KB'], ['5 MB', '3Kb', '+2KB', '1_0mB', '007gB', '0GB', '-1MB',
                                                         '20000000000GB'],
                  ['5M', '1.5GB', 'MB', '10TB', '', '1B', 'MB 5', '5 M B', '1_MB']),
    'address': (['8100', 'localhost:8100', '127.0.0.1:8100', '[::1]:8100', '@/zeo.sock'],
                [':8100', '::1', '[::1]', 'fe80::1:8100', './x', 'HOST:1', '0', 'localhost:', '[::1]:', '[X]:1',
                 'a:b:c:1', 'host', 'HOST.Example', '127.0.0.1:65535', 'h:+5', 'h: 5', 'a/b:c', '+8100', '08100',
                 '8_100', '[]:1', ':', '[::1]:0', 'x]:1', '[x:1', '1.2.3.4', '[a b]:1', 'a b:1', ' : 1'],
                ['host name', 'a:b', '65536', '-1', 'h:65536', 'h:-1', '', '1 2', '99999999999', 'h:1.5', '[::1]:x']),
    'dirpath': (['@/x', 'x.fs', '/x', '@/there/Data.fs'], ['~/x', '~', '~root/x', '~nobody-here/x', 'src/x', '@/there/',
                                                           './x', '../x', '//x', 'a b', '@//x', '.', '@/there/../y'],
                ['@/no/x', '~/no/x', 'no-such/x', '', '@/file/x', '@/no/']),
    'level': (['info', 'debug', 'warn', 'error'], ['WARNING', 'fatal', 'critical', 'blather', 'trace', 'all', 'notset',
                                                  '0', '50', '25', '+5', '1_0', '015'],
              ['51', '-1', 'loud', '', '2.5', 'inf o']),
    'style': (['classic'], ['Format', 'template', 'safe-template'], ['loose', '']),
    'facility': (['local1', 'user'], ['DAEMON', 'security', 'authpriv'], ['local8', '', 'console']),
    'url': (['http://localhost/'], ['http://h:80/a?b#c', 'HTTP://h/x', 'http://h/?x', 'http://u@h/x;y'],
            ['http://localhost', 'ftp://h/', '', 'http:///x', 'h/x', 'https://h/x', 'http://?x', 'http://#x/']),
    'method': (['GET', 'POST'], ['get', 'Post'], ['PUT', '']),
    'format': (['%(asctime)s %(message)s', '%(levelname)s %(name)s %(message)s'],
               ['', 'plain', '%%', '%(process)d', '%(lineno)05d\\n%(message)-8s', '\\t%(message)s\\q', '%(msecs)03.1f',
                '%(threadName)s %(message)r', '%(args)s', '{message}', '$message', '%(levelno)x', '%(levelno)c',
                '%(created)e', '%(created)d', '%(msecs)x',
                '%(message)5.2s', '%(process)*d', '%(message)c', '%(lineno)#o', '%(created)i'],
               ['%(mine)s', '%s', '50%', '%(message)d', '%(message', '%(name)', '%(name)q', '{mine}', '{', '{0}', '{}',
                '%()s', '%(message)', '% d']),
    'format in format': (['{message}', '{asctime} {levelname}'],
                         ['{asctime:>20}', '{{x}}', '{message!r}', '{lineno:05d}', '{msecs:.1f}', '', '{name:{lineno}}',
                          'plain', '%(message)s', '{process:x}', '{message!s:<9}', '}}', '{message:}', '{name.x}'],
                         ['{mine}', '{', '{0}', '{}', '{message!q}', '}', '{message', '{mine.x}', '{mine:>5}',
                          '{ message}']),
    'format in template': (['${message}', '$asctime $levelname'],
                           ['$$', '${message} $$', '', 'plain', '$message.x', '%(message)s', '$Message', '$$x'],
                           ['$mine', '$1', '${message', '$', '${}', '${mine}', '$ x', '${1}', '$é', '${message x}']),
    'text': (['some text', 'x'], ['', 'é 日本', 'a # b', '%x', 'a  b', '"quoted"', "'", '\\', 'a=b', '<x>', '\u00a0y'],
             []),
    'when': (['D', 'midnight', 'H'], ['', 's', 'M', 'W0', 'w6', 'MIDNIGHT'], ['W7', 'weekly', 'W', 'd2']),
    'old-files': (['3', '1', '10'], ['0', '+2'], ['-1', 'x', '']),
    'encoding': (['utf-8'], ['', 'latin-1'], []),
    'formatter': (['logging.Formatter'], ['logging.Formatter'], ['no such', 'no.such.module', '1x', 'a..b', 'x-y']),
    'authenticate': (['SIGNED', '@/x'], ['-', 'DYNAMIC', 'signed', 'no/such'], ['']),
    'logpath': (['@/log', 'STDERR', 'STDOUT'], ['log', '~/x', 'stderr', '@/no/log'], ['']),
    'program': (['runzeo'], ['a b c'], ['']),
    'existing': (['/', '@/file'], ['@/there', '~'], ['@/no', '']),
    'directory': (['/', '@/there'], ['@/new', '~'], ['@/no/x', '@/file']),
    'numbers': (['0', '0, 2'], ['0,2'], ['x', '']),
    'octal': (['022', '077'], ['7'], ['9', 'x']),
}
NAMED = {   # the types of keys whose data types are the packages' own functions, or any text
    'format': 'format', 'level': 'level', 'style': 'style', 'facility': 'facility', 'url': 'url', 'method': 'method',
    'when': 'when', 'formatter': 'formatter', 'authenticate': 'authenticate', 'encoding': 'encoding',
    'program': 'program',
}
KINDS = {
    'asBoolean': 'boolean', 'integer': 'integer', 'float_conversion': 'float', 'existing_dirpath': 'dirpath',
    'SocketBindingAddress': 'address', 'SocketAddress': 'address', 'SocketConnectionAddress': 'address',
    'InetAddress': 'address', 'DottedNameConversion': 'formatter', 'existing_path': 'existing',
    'existing_parent_dirpath': 'dirpath', 'existing_parent_directory': 'directory', 'list_of_ints': 'numbers',
    'octal_type': 'octal',
}
ENVIRONMENT = {'ZEO_PORT': '8123', 'WORD': 'true', 'EMPTY': '', 'DOLLAR': '$x', '_U1': 'lower', 'SPACED': ' a  b '}
# Lines that a mutation may put anywhere.
LINES = ('', '#', '# comment', '<', '>', '</', '</>', '<>', '</zeo>', '<zeo>', '<x', '</x>', '%', '%define',
         '%define x',
         '%x y', '%include', '%include none.conf', '%import', '%import ZODB', '%import ZEO', '%import zdaemon', '(x y',
         '%import ZConfig.components.logger', '%import no_such_package', '%import ZConfig.components.basic', 'key', '=',
         'read-only=true', 'x y', '9 x', 'a.b c', '-a b', 'a(b) c', '<mappingstorage/>', '<mappingstorage />',
         '<mappingstorage 7/>', '<mappingstorage a b>', '<eventlog/>', '< zeo>', '<zeo >', '<filestorage 1',
         '\x0c', '\t',
         '%define $x 1', '%define 1x 1', '%define é 1', 'é x', 'x\u00a0y', '$x y', 'path $', 'name $(',
         '</mappingstorage 7>',
         '<mappingstorage $x/>', '%define a b c', '%INCLUDE x', '%import $p', '<logfile/>', '<sslx/>', '<runner/>')


class Corpus:
    """One random case."""

    def __init__(self, schema, number, seed):
        self.schema = schema
        self.random = random.Random(f'{seed}-{number}')
        # Most cases are nearly right, so that one fault is seen and not the first of many.
        self.badness = self.random.choice((0, 0, 0, 0, .01, .02, .05))
        self.oddness = self.random.choice((.1, .3, .6))
        self.defines = []
        self.files = {}
        self.style = 'classic'

    def chance(self, probability):
        return self.random.random() < probability

    def make(self):
        lines = self.header()
        parts = [self.section('zeo', None)] if not self.chance(self.badness) else []
        for _ in range(self.random.choice((1, 1, 1, 2, 3)) if not self.chance(self.badness) else 0):
            kind = self.random.choice(STORAGES)
            if self.chance(.02):
                kind = self.random.choice(ELSEWHERE)
            parts.append(self.section(kind, self.name(len(parts))))
        if self.chance(.6):
            parts.append(self.section('eventlog', self.chance(.05) and 'log' or None))
        if self.chance(.3):
            parts.append(self.section('runner', None))
        if self.chance(self.badness):
            parts.append(self.section(self.random.choice(STRANGE), None))
        if self.chance(.2):
            self.random.shuffle(parts)
        for part in parts:
            lines += self.included(part) if self.chance(.1) else part
            if self.chance(.3):
                lines.append(self.random.choice(('', '   ', '# text', '\t# $x %define', '#')))
        lines = self.mutate(lines)
        self.files['zeo.conf'] = self.text(lines)
        return self.files

    def header(self):
        lines = []
        for _ in range(self.random.choice((0, 0, 1, 2, 4))):
            name = self.random.choice(('INSTANCE', 'a', 'B', '_c', 'x1', 'p', 'x'))
            value = self.random.choice(('@', 'true', '8100', '', 'a  b', '$$', '$$x', '~', 'ZODB', '(', 'x # y',
                                        '@/there'))
            if self.defines and self.chance(.3):
                value = '$' + self.random.choice(self.defines) + value
            if name.lower() in self.defines and not self.chance(.1):
                continue
            self.defines.append(name.lower())
            spaces = self.random.choice((' ', '  ', '\t'))
            lines.append(f'%define{spaces}{name}{spaces}{value}')
        return lines

    def name(self, number):
        if self.chance(.15):
            return None
        if self.chance(.1):
            return self.random.choice(('MAIN', 'é', 'a-b', 'a.b', '1', '$x', '#', 'x=y', 'changes', "it's", '"q"',
                                       '*', '+'))
        return str(number or 1)

    def section(self, kind, name, depth=0):
        """The lines of a section of the type `kind`."""
        header = kind if not self.chance(.05) else kind.upper()
        lines = []
        self.style = 'classic'
        known = kind in self.schema.gettypenames()
        for key, info in self.schema.gettype(kind) if known else ():
            lines += self.key(kind, key, info) if key and key != '+' else []
        self.complete(lines)
        lines += self.children(kind, depth)
        if kind in ('zeo', 'filestorage', 'logfile', 'eventlog') and self.chance(self.badness):
            lines.append(self.random.choice(('no-such-key 1', 'read_only true', 'pathh x', 'monitor-address 8199',
                                             'level')))
        if self.chance(.1) and depth == 0 and not any('<' in line for line in lines):
            self.random.shuffle(lines)
        indent = self.random.choice(('', '  ', '\t', '    '))
        name = f' {name}' if name is not None else ''
        if not lines and self.chance(.5):
            return [f'<{header}{name}/>']
        end = kind if not self.chance(.01) else kind + name
        return [f'<{header}{name}>', *(indent + line for line in lines), f'</{end}>']

    def complete(self, lines):
        """Adds what goes together with a key, in most cases."""
        for key, other, value in (('max-size', 'old-files', '3'), ('when', 'old-files', '1'),
                                  ('old-files', 'when', 'D'), ('smtp-username', 'smtp-password', 'x'),
                                  ('smtp-password', 'smtp-username', 'x')):
            keys = {line.split()[0].lower() for line in lines}
            if key in keys and other not in keys and (other != 'when' or 'max-size' not in keys) and self.chance(.8):
                lines.append(f'{other} {value}')

    def key(self, kind, key, info):
        wanted = 1 if info.minOccurs else {'eventlog': .7, 'runner': .15}.get(kind, .3)
        if info.minOccurs and self.chance(self.badness):
            wanted = 0
        if not self.chance(wanted):
            return []
        count = 2 if isinstance(info, MultiKeyInfo) and self.chance(.3) or self.chance(self.badness / 4) else 1
        lines = []
        for _ in range(count):
            name = key if not self.chance(.1) else key.upper()
            spaces = self.random.choice((' ', ' ', ' ', '  ', '\t'))
            lines.append(f'{name}{spaces}{self.value(kind, key, info)}')
        return lines

    def value(self, kind, key, info):
        kind = self.kind_of(kind, key, info)
        if kind == 'format' and self.chance(.9):
            kind = {'format': 'format in format', 'template': 'format in template',
                    'safe-template': 'format in template'}.get(self.style, kind)
        values = VALUES[kind]
        grade = BAD if self.chance(self.badness) else ODD if self.chance(self.oddness) else GOOD
        value = self.random.choice(values[grade] or values[GOOD])
        if kind == 'style':
            self.style = value.lower()
        # A '$' of a format's own is written twice.
        if '$' in value and self.chance(.9):
            value = value.replace('$', '$$')
        if self.defines and self.chance(.2 if kind in ('text', 'dirpath', 'logpath') else .005):
            define = self.random.choice(self.defines)
            reference = self.random.choice((f'${define}', f'${{{define}}}', f'${define.upper()}'))
            value = self.random.choice((reference, f'${{{define}}}{value}', value + reference))
        if self.chance(.1 if kind in ('text', 'dirpath') else .01):
            name = {'address': 'ZEO_PORT', 'boolean': 'WORD'}.get(kind, self.random.choice(list(ENVIRONMENT)))
            value = self.random.choice((f'$({name})', f'{value}$({name})'))
        if self.chance(self.badness):
            value += self.random.choice(('$', '$(', '${', '$unset', '$(UNSET)', '${unset}', '$$', '$1', '$(a',
                                         '${a', '$()'))
        return value

    @staticmethod
    def kind_of(kind, key, info):
        function = info.datatype
        if isinstance(function, datatypes.SuffixMultiplier):
            return 'byte-size'
        name = getattr(function, '__name__', type(function).__name__)
        if key == 'old-files':
            return 'old-files'
        if (kind, key) == ('logfile', 'path'):
            return 'logpath'
        return KINDS.get(name) or NAMED.get(key, 'text')

    def children(self, kind, depth):
        lines = []
        if kind == 'zeo' and self.chance(.15):
            lines += self.section('ssl', None, depth + 1)
        elif kind == 'eventlog':
            for number in range(self.random.choice((0, 1, 1, 1, 2, 3))):
                name = self.random.choice((None, None, f'h{number}', 'level' if self.chance(self.badness) else None))
                lines += self.section(self.random.choice(HANDLERS), name, depth + 1)
        elif kind == 'blobstorage' and depth < 4 and not self.chance(self.badness):
            lines += self.section(self.random.choice(STORAGES), self.random.choice((None, 'x')), depth + 1)
        elif kind == 'demostorage' and depth < 4:
            for name in self.random.choice(((), (None,), ('base',), ('changes',), (None, 'changes'), ('b', 'Changes'),
                                            ('a', 'b'), (None, None))):
                lines += self.section(self.random.choice(STORAGES), name, depth + 1)
        elif kind == 'runner' and self.chance(.1):
            lines += self.random.choice((['<eventlog>', '</eventlog>'], ['<environment>', 'A b', '</environment>']))
        return lines

    def included(self, part):
        """Moves lines to a file of their own."""
        number = len(self.files)
        name = self.random.choice((f'inc{number}.conf', f'sub/inc{number}.conf', f'in%20c{number}.conf'))
        start, end = 0, len(part)
        if self.chance(.3) and len(part) > 2:
            # Only keys, or an end without its start.
            start, end = (self.random.randrange(end), end) if self.chance(.3) else (1, end - 1)
        inner = part[start:end]
        if self.chance(.2):
            deeper = f'deep{number}.conf'
            where = os.path.dirname(name)
            self.files[os.path.join(where, deeper)] = self.text(inner)
            inner = [f'%include {deeper}']
        self.files[name.replace('%20', ' ')] = self.text(inner)
        written = name
        if self.chance(.2):
            written = self.random.choice((f'./{name}', f'file://{{CASE}}/{name}', f'{{CASE}}/{name}', f'sub/../{name}'))
        if self.chance(self.badness):
            written = self.random.choice(('none.conf', 'zeo.conf', 'http://localhost/x', 'package:ZEO:server.xml',
                                          'a#b', '.'))
        return [*part[:start], f'%include {written}', *part[end:]]

    def mutate(self, lines):
        lines = list(lines)
        for _ in range(self.random.choice((0, 0, 0, 0, 1, 1, 2)) if self.badness else 0):
            if not lines:
                break
            at = self.random.randrange(len(lines))
            line = lines[at]
            lines[at:at + 1] = self.random.choice((
                [], [line, line], [line, self.random.choice(LINES)], [line, self.random.choice(LINES)],
                [line[:self.random.randrange(len(line) + 1)]], [line.upper()], [line.swapcase()], [line + ' '],
                [line + self.random.choice('<>/#%$() \x0b\x1c\u2003')], [' ' + line], [line.replace(' ', '', 1)],
                [line.replace('>', ' >')], [line + ' #x'], [line.replace('<', '< ')],
            ))
        return lines

    def text(self, lines):
        end = self.random.choice(('\n', '\n', '\n', '\r\n', ' \n'))
        text = ''.join(line + end for line in lines)
        return text.rstrip('\n') if self.chance(.1) else text


def write(directory, files, replacements):
    for name, text in files.items():
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        for old, new in replacements.items():
            text = text.replace(old, new)
        with open(path, 'wb') as target:
            target.write(text.encode())


# Where zeod accepts on purpose what Python refuses: the reason, and what to take out of the text so that
# Python shows what it makes of the rest. Names and reasons are printed by the Rust side.
RUNNER = re.compile(r'(?ims)^(\s*<runner\b[^>\n]*[^/>\n]>\s*\n|\s*<runner>\s*\n).*?^(\s*</runner\s*>\s*)$')
RELAXED = (
    ('runner', lambda text: RUNNER.sub(r'\1 program x\n\2', re.sub(r'(?im)^\s*<runner\s*/>\s*$', '', text))),
    ('monitor-address', lambda text: re.sub(r'(?im)^\s*monitor-address\s.*$', '', text)),
    ('close-with-name', lambda text: re.sub(r'(?m)^(\s*</[^\s()>]+)\s[^>\n]*>', r'\1>', text)),
    ('formatter', lambda text: re.sub(r'(?im)^\s*formatter\s.*$', '', text)),
)


def verdict(schema, path):
    try:
        config, _ = ZConfig.loadConfig(schema, path)
        names = [storage.name for storage in config.storages]
        # What ZEOOptions.realize asks for beyond the schema.
        if names.count(None) > 1 or None in names and '1' in names:
            return None, 'names of storages'
        return values(config), None
    except Exception as error:      # whatever it is, the server would not start
        return None, f'{type(error).__name__}: {error}'


def values(config):
    zeo = config.zeo
    result = {
        'address': address(zeo.address, 0),
        'read_only': zeo.read_only,
        'invalidation_queue_size': zeo.invalidation_queue_size,
        'invalidation_age': age(zeo.invalidation_age),
        'transaction_timeout': zeo.transaction_timeout,
        'pid_filename': zeo.pid_filename,
        'client_conflict_resolution': zeo.client_conflict_resolution,
        'msgpack': zeo.msgpack,
        'ssl': zeo.ssl and {
            'certificate': zeo.ssl.certificate, 'key': zeo.ssl.key or None,
            'password_function': zeo.ssl.password_function or None,
            'authenticate': 'SIGNED' if zeo.ssl.authenticate == '-' else zeo.ssl.authenticate,
        },
    }
    eventlog = config.eventlog
    return {
        'zeo': result,
        'storages': [{'name': storage.name or '1', **storage_values(storage)} for storage in config.storages],
        'eventlog': eventlog and {
            'level': eventlog.level,
            'handlers': [handler_values(factory.section) for factory in eventlog.handler_factories],
        },
    }


def address(found, default_port):
    where = getattr(found, 'address', found)
    return where if isinstance(where, str) else [where[0], default_port if where[1] is None else where[1]]


def storage_values(storage):
    config = storage.config
    kind = config.getSectionType()
    if kind == 'filestorage':
        return {'type': kind, 'path': config.path, 'blob_dir': config.blob_dir or None, 'create': bool(config.create),
                'read_only': bool(config.read_only), 'quota': config.quota, 'packer': config.packer or None,
                'pack_gc': config.pack_gc, 'pack_keep_old': config.pack_keep_old}
    if kind == 'mappingstorage':
        return {'type': kind, 'name_of_itself': config.name}
    if kind == 'blobstorage':
        return {'type': kind, 'blob_dir': config.blob_dir, 'base': config.base and storage_values(config.base)}
    if kind == 'demostorage':
        parts = {'base': None, 'changes': None}
        for factory in config.factories:
            parts['changes' if factory.name == 'changes' else 'base'] = storage_values(factory)
        return {'type': kind, 'name_of_itself': config.name, **parts}
    if kind == 'zeoclient':
        return {'type': kind, 'server': [address(server, 0) for server in config.server], 'storage': config.storage,
                'name_of_itself': config.name or None, 'read_only': config.read_only,
                'read_only_fallback': config.read_only_fallback, 'wait': config.wait,
                'cache_size': config.cache_size, 'client_label': config.client_label or None,
                'blob_dir': config.blob_dir or None, 'shared_blob_dir': config.shared_blob_dir,
                'blob_cache_size': config.blob_cache_size}
    return {'type': kind}


def handler_values(section):
    kind = section.getSectionType()
    result = {'type': kind, 'level': section.level}
    if kind in ('logfile', 'syslog'):
        result |= {'format': section.format, 'dateformat': section.dateformat, 'style': section.style}
    if kind == 'logfile':
        result |= {'path': section.path, 'old_files': section.old_files, 'max_size': section.max_size,
                   'when': section.when.lower(), 'interval': interval(section), 'encoding': section.encoding or None,
                   'delay': section.delay}
    if kind == 'syslog':
        result |= {'address': address(section.address, 514), 'facility': section.facility}
    return result


def age(seconds):
    """As text, since JSON has neither inf nor nan. Rust's times end at 2**64 seconds."""
    if seconds is None:
        return None
    return 'inf' if seconds >= 2 ** 64 else f'{seconds:.3f}'


def interval(section):
    """As the section's own factory takes it."""
    return max(section.interval, 1) if section.when else 0


def main(directory, seed, count):
    warnings.simplefilter('ignore')
    os.makedirs(os.path.join(directory, 'home'))
    os.makedirs(os.path.join(directory, 'there'))
    open(os.path.join(directory, 'file'), 'w').close()
    environment = {**ENVIRONMENT, 'HOME': os.path.join(directory, 'home')}
    for name in ('INSTANCE_HOME', 'ZEO_MSGPACK', 'UNSET', 'a'):
        os.environ.pop(name, None)
    os.environ.update(environment)
    options = ZEOOptions()
    options.load_schema()
    schema = options.schema
    # Reading is compared, not the certificates.
    schema.gettype('ssl').datatype = lambda section: section
    with open(os.path.join(directory, 'results.jsonl'), 'w') as results:
        results.write(json.dumps({'environment': environment}) + '\n')
        for number in range(count):
            case = os.path.join(directory, str(number))
            files = Corpus(schema, number, seed).make()
            replacements = {'@': directory, '{CASE}': case}
            write(case, files, replacements)
            found, problem = verdict(schema, os.path.join(case, 'zeo.conf'))
            result = {'values': found, 'problem': problem, 'relaxed': []}
            if found is None:
                result |= relaxed(schema, directory, files, replacements)
            results.write(json.dumps(result) + '\n')


def relaxed(schema, directory, files, replacements):
    """What Python makes of a refused case without what zeod accepts on purpose; at first one thing at a time."""
    place = os.path.join(directory, 'relaxed')
    everything = [name for name, _ in RELAXED]
    for names in [[name] for name in everything] + [everything]:
        changed = dict(files)
        for name, change in RELAXED:
            if name in names:
                changed = {file: change(text.replace('\r\n', '\n')) for file, text in changed.items()}
        if changed == files:
            continue
        shutil.rmtree(place, ignore_errors=True)
        write(place, changed, {**replacements, '{CASE}': place})
        found, _ = verdict(schema, os.path.join(place, 'zeo.conf'))
        if found is not None:
            return {'values': found, 'relaxed': names}
    return {}


if __name__ == '__main__':
    main(os.path.abspath(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
