file { '/etc/postfix/main.cf':
  ensure => file,
  owner  => 'root',
  group  => 'root',
  mode   => '0644',
  source => '/usr/local/share/postfix/main.cf',
  backup => false,
}

exec { '/usr/bin/newaliases':
  refreshonly => true,
  subscribe   => File['/etc/postfix/main.cf'],
}

service { 'postfix':
  ensure    => running,
  subscribe => File['/etc/postfix/main.cf'],
  require   => Exec['/usr/bin/newaliases'],
}
