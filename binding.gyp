# The addon, built by node-gyp from the same sources and the same resolved LibTorch as CMakeLists.txt:
# `npm run build:node-gyp` makes build/Release/layerwise.node.
{
  'targets': [
    {
      'target_name': 'operators',
      'type': 'none',
      'hard_dependency': 1,
      'actions': [
        {
          'action_name': 'generate_operators',
          'inputs': ['native/operators.json', 'scripts/generate-operators.mjs'],
          'outputs': ['<!@(node scripts/gyp.mjs binding)'],
          'action': ['node', 'scripts/generate-operators.mjs'],
        },
      ],
    },
    {
      'target_name': 'layerwise',
      'dependencies': ['operators'],
      'sources': ['<!@(node scripts/gyp.mjs sources)'],
      'include_dirs': [
        '<!@(node scripts/gyp.mjs generated)',
        # Before a Gloo that the system has, whose release need not be that of LibTorch's.
        'native/gloo-names',
        '<!@(node scripts/gyp.mjs node-api)',
      ],
      'defines': [
        'NAPI_VERSION=8',
        'NAPI_CPP_EXCEPTIONS',
        '<!@(node scripts/gyp.mjs defines)',
      ],
      # Node's own defaults are without exceptions and run-time types; LibTorch needs both.
      'cflags!': ['-fno-exceptions'],
      'cflags_cc!': ['-fno-exceptions', '-fno-rtti', '-std=gnu++17', '-std=gnu++20', '-O3'],
      'cflags_cc': [
        '-std=c++20',
        '-O2',
        '-fexceptions',
        '-fvisibility=hidden',
        '<!@(node scripts/gyp.mjs includes)',
      ],
      # Full paths and DT_RPATH, for the reasons that CMakeLists.txt gives.
      'libraries': ['<!@(node scripts/gyp.mjs libraries)'],
      'conditions': [
        ['OS=="linux"', {
          'ldflags': [
            '-Wl,--disable-new-dtags',
            '-Wl,-z,nodelete',
            '-Wl,--no-as-needed',
            '<!@(node scripts/gyp.mjs rpath-file)',
          ],
        }],
        ['OS=="mac"', {
          'xcode_settings': {
            'CLANG_CXX_LANGUAGE_STANDARD': 'c++20',
            'GCC_ENABLE_CPP_EXCEPTIONS': 'YES',
            'GCC_ENABLE_CPP_RTTI': 'YES',
            'GCC_SYMBOLS_PRIVATE_EXTERN': 'YES',
            'MACOSX_DEPLOYMENT_TARGET': '11.0',
            'OTHER_CPLUSPLUSFLAGS': ['<!@(node scripts/gyp.mjs includes)'],
            'OTHER_LDFLAGS': ['<!@(node scripts/gyp.mjs rpaths)'],
          },
        }],
      ],
    },
  ],
}
