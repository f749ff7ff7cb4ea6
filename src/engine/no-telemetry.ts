/**
 * ONNX Runtime reports its use to its maker and keeps files in the user's home for that, unless this variable is set before
 * its library is loaded. A service that people run on their own machines tells nobody.
 */
process.env['ORT_DISABLE_TELEMETRY'] = '1'
